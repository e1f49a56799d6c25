# @summary The way in: by Puppet's proxy settings, by names that lead to loopback, or by one such name and a port for each role
type Puppet_shim::Mode = Enum['proxy', 'alias', 'port']
