# @summary A size with its unit, such as `512B`, `64KB`, `16KiB`, `2MB` or `1MiB`
type Puppet_shim::Size = Pattern[/\A[0-9]+(B|KB|KiB|MB|MiB)\z/]
