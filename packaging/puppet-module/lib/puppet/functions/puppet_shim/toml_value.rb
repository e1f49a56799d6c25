# frozen_string_literal: true

# @summary Writes a value as TOML 1.0 does
Puppet::Functions.create_function(:'puppet_shim::toml_value') do
  # @param value
  #   What to write. A string becomes a basic string, in which quotes, backslashes and control characters are escaped.
  # @return [String]
  #   The value as it stands behind `key = `
  # @example A list
  #   puppet_shim::toml_value(['a "b"', 8140, false]) # ["a \"b\"", 8140, false]
  dispatch :write do
    param 'Variant[String, Integer, Boolean, Array[Variant[String, Integer, Boolean]]]', :value
    return_type 'String'
  end

  def write(value)
    case value
    when Array then "[#{value.map { |item| write(item) }.join(', ')}]"
    when String then %("#{value.gsub(/["\\\u0000-\u001f\u007f]/) { |char| escape(char) }}")
    else value.to_s
    end
  end

  def escape(char)
    ['"', '\\'].include?(char) ? "\\#{char}" : format('\\u%04X', char.ord)
  end
end
