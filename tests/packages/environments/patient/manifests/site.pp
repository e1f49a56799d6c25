# A catalog that takes a minute to compile, in which the server says nothing.
$nothing = generate('/bin/sleep', '60')
notify { "compiled by ${settings::certname} in a minute": }
