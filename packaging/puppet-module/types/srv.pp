# @summary The owner name of SRV records, `_SERVICE._PROTOCOL` under the domain or a whole name; `false` for none
type Puppet_shim::Srv = Variant[Boolean[false], Pattern[/\A_[A-Za-z0-9_-]+\._[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?\z/]]
