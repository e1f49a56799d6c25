# @summary Roles by their names: `ca`, `compile`, `files`, `report`, and any that are added
type Puppet_shim::Roles = Hash[Pattern[/\A[a-z][a-z0-9_-]*\z/], Puppet_shim::Role]
