# @summary A TCP port, or a range of them such as `8140-8149`
type Puppet_shim::Ports = Variant[Puppet_shim::Port, Pattern[/\A[0-9]{1,5}-[0-9]{1,5}\z/]]
