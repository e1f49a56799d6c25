# frozen_string_literal: true

# Compiles catalogs, many in one process: a list of {code, facts} as JSON on standard input, a list of {resources} or {error} on standard output.
# The argument is a module path.

require 'json'
require 'puppet'
require 'puppet_pal'

modulepath = ARGV.fetch(0).split(':')
Puppet.initialize_settings(['--log_level', 'err', '--vardir', '/nonexistent', '--confdir', '/nonexistent'])

def compile(compiler)
  catalog = compiler.with_json_encoding { |encoder| JSON.parse(encoder.encode) }
  { resources: catalog.fetch('resources'), edges: catalog.fetch('edges') }
end

results = JSON.parse($stdin.read).map do |request|
  Puppet::Pal.in_tmp_environment('test', modulepath: modulepath, facts: request.fetch('facts')) do |context|
    context.with_catalog_compiler(code_string: request.fetch('code')) { |compiler| compile(compiler) }
  end
rescue StandardError => e
  { error: e.message }
end
puts JSON.generate(results)
