-- pypwru.lua: fields and display filters from pypwru's packet comments.
--
--     pypwru --output-pcap - FILTER | tshark -r - -X lua_script:pypwru.lua -Y pypwru.drop_reason
--
-- pypwru --output-pcap gives each packet of a pcapng file a comment, one line of logfmt:
--
--     func=kfree_skb_reason skb=0xffff8881 process="my curl" pid=7 ... type=drop drop_reason=...
--
-- A value that is empty or has a space, a quote, "=" or an unprintable character is in double
-- quotes, with the escapes of Go's strconv.Quote. Comments of any other form are left alone.

local pypwru = Proto("pypwru", "pypwru: where the kernel had this packet")
local comments = Field.new("frame.comment")

local function word(text)
    return text
end

local function number(text)
    local found = text:match("^%d+$") and tonumber(text)
    return found and found < 2 ^ 32 and found or nil
end

local function address(text)
    local digits = text:match("^0x(%x+)$")
    return digits and #digits <= 16 and UInt64.fromhex(digits) or nil
end

-- Key of the comment; type and base of the field; function that parses the value; the field's name.
local ROWS = {
    { "func", "string", nil, word, "Function" },
    { "skb", "uint64", base.HEX, address, "sk_buff" },
    { "process", "string", nil, word, "Process" },
    { "pid", "uint32", base.DEC, number, "Process ID" },
    { "cpu", "uint32", base.DEC, number, "CPU" },
    { "type", "string", nil, word, "Type of event" },
    { "netns", "uint32", base.DEC, number, "Network namespace" },
    { "netns_name", "string", nil, word, "Network namespace's name" },
    { "iface", "string", nil, word, "Interface" },
    { "drop_reason", "string", nil, word, "Drop reason" },
    { "nft.chain", "string", nil, word, "nftables chain" },
    { "nft.rule", "string", nil, word, "nftables rule" },
    { "nft.verdict", "string", nil, word, "nftables verdict" },
    { "nft.text", "string", nil, word, "nftables rule's text" },
    { "nft.comment", "string", nil, word, "nftables rule's comment" },
}

local fields = {}
for _, row in ipairs(ROWS) do
    local key, kind, radix, _, name = table.unpack(row, 1, 5)
    fields[key] = ProtoField[kind]("pypwru." .. key, name, radix)
end
pypwru.fields = fields

local dropped = ProtoExpert.new(
    "pypwru.dropped", "The kernel dropped this packet", expert.group.RESPONSE_CODE, expert.severity.WARN
)
pypwru.experts = { dropped }

local LETTERS =
    { a = "\a", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", v = "\v", ["\\"] = "\\", ['"'] = '"' }
local DIGITS = { x = 2, u = 4, U = 8 }

-- Return the UTF-8 encoding of a code point. Lua 5.2, of Wireshark before 4.4, has no utf8 library.
local function utf8_of(code)
    if code < 0x80 then
        return string.char(code)
    end
    local tail, limit = "", 0x40
    repeat
        tail = string.char(0x80 + code % 0x40) .. tail
        code = math.floor(code / 0x40)
        limit = limit / 2
    until code < limit
    return string.char(256 - 2 * limit + code) .. tail
end

-- Resolve escapes. NUL, and bytes that are not UTF-8 (\x80 and above), stay escaped: no field can
-- hold them.
local function unescaped(text)
    return (text:gsub("\\(.)(%x*)", function(letter, digits)
        local count = DIGITS[letter]
        if not count or #digits < count then
            return (LETTERS[letter] or "\\" .. letter) .. digits
        end
        local code, rest = tonumber(digits:sub(1, count), 16), digits:sub(count + 1)
        if code == 0 or code > 0x10ffff or (letter == "x" and code >= 0x80) then
            return nil
        end
        return utf8_of(code) .. rest
    end))
end

-- Return the quoted value that starts at `start`, behind its opening quote, and the position behind
-- the closing quote; nil without one.
local function quoted(line, start)
    local at = start
    while true do
        at = line:find('["\\]', at)
        if not at then
            return nil
        elseif line:sub(at, at) == '"' then
            return unescaped(line:sub(start, at - 1)), at + 1
        end
        at = at + 2 -- skip the escaped character
    end
end

-- Return key -> value of a logfmt line; nil for any other text, and without `func` and `skb`.
local function parsed(line)
    local values, at = {}, 1
    repeat
        local key, start = line:match("^([%w_.]+)=()", at)
        if not key then
            return nil
        end
        local value, after = line:match('^([^%c "=]+)()', start)
        if line:sub(start, start) == '"' then
            value, after = quoted(line, start + 1)
        end
        if not value then
            return nil
        end
        values[key], at = value, after + 1
    until line:sub(after, after) ~= " "
    return at == #line + 2 and values.func and address(values.skb or "") and values or nil
end

local function show(values, tree)
    local branch = tree:add(pypwru):set_generated()
    branch:append_text(", in " .. values.func)
    for _, row in ipairs(ROWS) do
        local value = values[row[1]] and row[4](values[row[1]])
        if value then
            branch:add(fields[row[1]], value):set_generated()
        end
    end
    if values.type == "drop" or values.drop_reason then
        branch:add_proto_expert_info(dropped, "Dropped: " .. (values.drop_reason or values.func))
    end
end

function pypwru.dissector(_, _, tree)
    for _, comment in ipairs({ comments() }) do
        local values = parsed(comment.value)
        if values then
            show(values, tree)
        end
    end
end

register_postdissector(pypwru)
