-- Adds to a stream's log of changes apart from its index.
--
-- KEYS and ARGV: see `told_stands` and `append` in shared.lua, from ARGV[1] on.
--
-- Returns 1; or 2 where the log has said something else meanwhile, and nothing was done.
if not told_stands(KEYS[1], 3) then
  return 2
end
append(KEYS[2], KEYS[1], 1)
return 1
