# @summary The `[dns]` table
type Puppet_shim::Dns = Struct[{
    servers        => Optional[Array[Puppet_shim::Nameserver]],
    timeout        => Optional[Puppet_shim::Duration],
    max_stale      => Optional[Puppet_shim::Duration],
    allow_loopback => Optional[Boolean],
    dnssec         => Optional[Enum['off', 'prefer', 'require']],
    trust_anchor   => Optional[Puppet_shim::Path],
    ca_file        => Optional[Puppet_shim::Path],
}]
