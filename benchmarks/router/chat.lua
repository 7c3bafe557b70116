-- wrk script: chats of `bytes` bytes each, none of which begins as another one did.
--   wrk -s chat.lua http://127.0.0.1:PORT -- 2000 [close]
-- `close`: a connection for each.
-- The request is put together here, in one concatenation, because the load generator shares its cores with
-- the router that is measured.
local before, after
local sent = 0

function init(args)
  local bytes = tonumber(args[1]) or 2000
  local head = '{"model":"m","messages":[{"role":"system","content":"Number '
  local tail = '"}],"max_tokens":16,"temperature":0}'
  local words = "every request of this load asks for something that no other one has asked for; "
  local room = bytes - #head - 9 - #tail
  local text = string.rep(words, math.ceil(room / #words)):sub(1, room)
  before = string.format("POST /v1/chat/completions HTTP/1.1\r\nHost: %s:%s\r\nContent-Type: application/json\r\n" ..
                         "%sContent-Length: %d\r\n\r\n%s", wrk.host, wrk.port,
                         args[2] == "close" and "Connection: close\r\n" or "", bytes, head)
  after = text .. tail
end

function request()
  sent = sent + 1
  return before .. string.format("%09d", sent) .. after
end
