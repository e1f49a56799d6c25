# @summary The names, and the ports, by which agents ask for the roles; the servers' certificates have to have these names
type Puppet_shim::Agent_names = Struct[{
    server        => Optional[Puppet_shim::Name],
    ca_server     => Optional[Puppet_shim::Name],
    report_server => Optional[Puppet_shim::Name],
    file_server   => Optional[Puppet_shim::Name],
    ca_port       => Optional[Puppet_shim::Port],
    report_port   => Optional[Puppet_shim::Port],
    file_port     => Optional[Puppet_shim::Port],
}]
