# @summary The `[timeouts]` table
type Puppet_shim::Timeouts = Struct[{
    sniff   => Optional[Puppet_shim::Duration],
    connect => Optional[Puppet_shim::Duration],
    budget  => Optional[Puppet_shim::Duration],
    idle    => Optional[Puppet_shim::Duration],
    pin     => Optional[Puppet_shim::Duration],
    drain   => Optional[Puppet_shim::Duration],
}]
