# @summary A duration with its unit, such as `250ms`, `2s`, `5min`, `1h` or `7d`
type Puppet_shim::Duration = Pattern[/\A[0-9]+(ms|s|min|h|d)\z/]
