"""What Redis does by itself, in Lua: no older version ever replaces a newer one."""

from __future__ import annotations

# What is no number, or no hash, is no version: an entry that somebody or something spoilt gives way to any other.
_VERSION_OF = """
local function version_of(key)
  local version = redis.pcall('HGET', key, 'v')
  if type(version) == 'table' then
    redis.call('DEL', key)
    return nil
  end
  return version and tonumber(version)
end
"""

# KEYS: the generation, then assessments. ARGV: time to live, the generation when they were read, then the version and
# the JSON of each. In another generation nothing is set.
SET_IF_NEWER = f"""{_VERSION_OF}
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[2] then return end
for i = 2, #KEYS do
  local version = version_of(KEYS[i])
  if not version or version < tonumber(ARGV[i * 2 - 1]) then
    redis.call('HSET', KEYS[i], 'v', ARGV[i * 2 - 1], 'd', ARGV[i * 2])
  end
  redis.call('PEXPIRE', KEYS[i], ARGV[1])
end
"""

# KEYS: the position, then assessments. ARGV: time to live, the position before and after, how many of the assessments
# (the first ones) are new, whether there may be no position yet, then versions and JSONs. Answers the position it found
# where that is not the one before, or nothing where there is none and has to be; then nothing is set.
REFLECT = f"""{_VERSION_OF}
local position = redis.pcall('GET', KEYS[1])
if position and (type(position) == 'table' or not tonumber(position)) then
  redis.call('DEL', KEYS[1])
  position = false
end
if not position and ARGV[5] == '0' then return false end
if position and position ~= ARGV[2] then return position end
local created = tonumber(ARGV[4])
for i = 2, #KEYS do
  local version = version_of(KEYS[i])
  if i - 1 <= created or not version or version < tonumber(ARGV[i * 2 + 2]) then
    redis.call('HSET', KEYS[i], 'v', ARGV[i * 2 + 2], 'd', ARGV[i * 2 + 3])
  end
  redis.call('PEXPIRE', KEYS[i], ARGV[1])
end
redis.call('SET', KEYS[1], ARGV[3])
return ARGV[3]
"""
