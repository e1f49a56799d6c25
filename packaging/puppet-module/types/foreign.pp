# @summary What becomes of names that are not Puppet's: `refuse`, `direct`, or the proxy that takes them, `http://HOST:PORT`
type Puppet_shim::Foreign = Variant[Enum['refuse', 'direct'], Pattern[/\Ahttp:\/\/[^\/@\s"]+:[0-9]{1,5}\/?\z/]]
