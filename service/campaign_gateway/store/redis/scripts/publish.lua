-- Publishes a message about a key to all replicas.
--
-- KEYS[1]  the number of the bus's last message
-- ARGV[1]  the bus
-- ARGV[2]  the kind of message
-- ARGV[3]  the replica that publishes it
-- ARGV[4]  the key as replicas name it
-- First a write that takes no memory: see swap.lua.
redis.call('PERSIST', KEYS[1])
publish(ARGV[1], ARGV[2], ARGV[3], KEYS[1], ARGV[4])
