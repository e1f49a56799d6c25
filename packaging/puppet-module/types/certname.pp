# @summary A certname: printable ASCII without `/`
type Puppet_shim::Certname = Pattern[/\A[\x20-\x2e\x30-\x7e]+\z/]
