# @summary A TCP port
type Puppet_shim::Port = Integer[1, 65535]
