# @summary The `[certificates]` table
type Puppet_shim::Certificates = Struct[{
    check   => Optional[Boolean],
    ca_file => Optional[Puppet_shim::Path],
}]
