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
local generation = redis.pcall('GET', KEYS[1]) or ''
if type(generation) == 'table' then
  redis.call('DEL', KEYS[1])
  generation = ''
end
if generation ~= ARGV[2] then return end
for i = 2, #KEYS do
  local version = version_of(KEYS[i])
  if not version or version < tonumber(ARGV[i * 2 - 1]) then
    redis.call('HSET', KEYS[i], 'v', ARGV[i * 2 - 1], 'd', ARGV[i * 2])
  end
  redis.call('PEXPIRE', KEYS[i], ARGV[1])
end
"""

# KEYS: the position, assessments, the generation. ARGV: time to live, the position before and after, how many of the
# assessments (the first ones) are new, whether there may be no position yet, then versions and JSONs. Answers the
# position it found where that is not the one before, or nothing where there is none and has to be. What is not taken
# over is forgotten, there and where Redis is full: it is older than Postgres. Then another generation begins, so that
# nobody fills in what he had read before; a full Redis takes no name of one, and has none.
REFLECT = f"""{_VERSION_OF}
local position = redis.pcall('GET', KEYS[1])
if position and (type(position) == 'table' or not tonumber(position)) then
  redis.call('DEL', KEYS[1])
  position = false
end
if not position and ARGV[5] == '0' then return false end
local missed = position and position ~= ARGV[2]
local full = false
local function write(...)
  local answer = redis.pcall(...)
  full = full or (type(answer) == 'table' and answer.err and true)
end
local created = tonumber(ARGV[4])
for i = 2, #KEYS - 1 do
  if not (missed or full) then
    local version = version_of(KEYS[i])
    if i - 1 <= created or not version or version < tonumber(ARGV[i * 2 + 2]) then
      write('HSET', KEYS[i], 'v', ARGV[i * 2 + 2], 'd', ARGV[i * 2 + 3])
    end
  end
  if missed or full then redis.call('DEL', KEYS[i]) end
  redis.call('PEXPIRE', KEYS[i], ARGV[1])
end
if missed then
  local now = redis.call('TIME')
  redis.pcall('SET', KEYS[#KEYS], redis.sha1hex(KEYS[1] .. now[1] .. '.' .. now[2]))
  return position
end
if not full then write('SET', KEYS[1], ARGV[3]) end
if full then
  redis.call('DEL', KEYS[#KEYS])
  return redis.error_reply('OOM there is no room for what changed')
end
return ARGV[3]
"""
