-- Finds out whether the server takes what a replica writes. It changes nothing, for there is no such key.
--
-- KEYS[1]  the key
redis.call('SET', KEYS[1], '', 'XX')
