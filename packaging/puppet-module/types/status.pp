# @summary The `[status]` table
type Puppet_shim::Status = Struct[{
    socket => Optional[Variant[Boolean[false], Puppet_shim::Path]],
    group  => Optional[Pattern[/\A[^:,[:space:][:cntrl:]]+\z/]],
    page   => Optional[Boolean],
}]
