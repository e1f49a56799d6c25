# @summary The `[limits]` table
type Puppet_shim::Limits = Struct[{
    connections => Optional[Integer[1, 1000000]],
    hello       => Optional[Puppet_shim::Size],
}]
