# @summary A `[role.NAME]` table: what is for this role, and where its servers are
type Puppet_shim::Role = Struct[{
    names         => Optional[Array[Puppet_shim::Name]],
    ports         => Optional[Array[Puppet_shim::Port]],
    srv           => Optional[Puppet_shim::Srv],
    fallback      => Optional[Boolean],
    servers       => Optional[Array[Puppet_shim::Server]],
    balance       => Optional[Enum['srv', 'hash', 'least-loaded']],
    prefer        => Optional[Array[Puppet_shim::Target]],
    allow_targets => Optional[Array[Puppet_shim::Target]],
    allow_ports   => Optional[Array[Puppet_shim::Ports, 1]],
}]
