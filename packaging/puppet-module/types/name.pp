# @summary A host or domain name
type Puppet_shim::Name = Pattern[/\A[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?\z/]
