# @summary The absolute path of a file
type Puppet_shim::Path = Pattern[/\A\/[^\x00]*[^\x00\/]\z/]
