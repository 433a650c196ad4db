namespace Backend.Toolkit.Idempotency.Redis;

/// <summary>
/// The verbs. A record is one string: <c>i1</c>, its state (<c>p</c> in progress, <c>a</c> abandoned, <c>c</c> completed, <c>t</c> tombstone), the fence and the end of the lease (µs of the server's clock) as
/// big-endian doubles, the fingerprint; then the phases (lengths of name and value, name, value), or status and content. Whole numbers below 2^53 are exact in doubles, until the year 2255.
/// Each script writes once, so that nothing is half done when it fails, and wakes afterwards by <c>pcall</c>: who may not publish still writes.
/// </summary>
internal static class RecordScripts
{
    /// <summary>Bytes before phases, or before status and content.</summary>
    public const int HeadSize = 51;

    /// <summary>KEYS: the key, perhaps the previous one. ARGV: fingerprint, lease (µs), life (ms), before the names of channels.</summary>
    public static Script Begin { get; } = new("""
        local time, key, state = redis.call('TIME'), 1, false
        local now = time[1] * 1000000 + time[2]
        for i = 1, #KEYS do
          state = redis.call('GET', KEYS[i])
          if state then
            key = i
            break
          end
        end
        local fence, left, phases = now, 0, ''
        if state then
          if #state < 51 or state:sub(1, 2) ~= 'i1' then
            return redis.error_reply('FOREIGN the key holds no idempotency record')
          end
          local kind = state:sub(3, 3)
          if state:sub(20, 51) ~= ARGV[1] then
            return 'm' .. key
          end
          if kind == 'c' or kind == 't' then
            return 'c' .. key .. kind .. state:sub(52)
          end
          local last, lease = struct.unpack('>dd', state, 4)
          if kind == 'p' and lease > now then
            return 'p' .. key .. struct.pack('>dd', last, lease - now)
          end
          fence, phases = math.max(last + 1, now), state:sub(52)
        end
        redis.call('SET', KEYS[key], 'i1p' .. struct.pack('>dd', fence, now + ARGV[2]) .. ARGV[1] .. phases, 'PX', ARGV[3])
        if state then
          redis.pcall('PUBLISH', ARGV[4] .. KEYS[key], '')
        end
        return 's' .. key .. struct.pack('>d', fence) .. phases
        """);

    /// <summary>ARGV: fence, lease (µs), lease (ms).</summary>
    public static Script Renew { get; } = new("""
        if redis.call('GETRANGE', KEYS[1], 0, 10) ~= 'i1p' .. ARGV[1] then
          return 0
        end
        local time = redis.call('TIME')
        if redis.call('PTTL', KEYS[1]) < ARGV[3] + 0 then
          redis.call('PEXPIRE', KEYS[1], ARGV[3])
        end
        redis.call('SETRANGE', KEYS[1], 11, struct.pack('>d', time[1] * 1000000 + time[2] + ARGV[2]))
        return 1
        """);

    /// <summary>ARGV: fence, name, the phase as it is kept.</summary>
    public static Script SavePhase { get; } = new("""
        if redis.call('GETRANGE', KEYS[1], 0, 10) ~= 'i1p' .. ARGV[1] then
          return 0
        end
        local state, at = redis.call('GET', KEYS[1]), 52
        while at <= #state do
          local name, value = struct.unpack('>I2I4', state, at)
          local behind = at + 6 + name + value
          if state:sub(at + 6, at + 5 + name) == ARGV[2] then
            redis.call('SET', KEYS[1], state:sub(1, at - 1) .. state:sub(behind) .. ARGV[3], 'KEEPTTL')
            return 1
          end
          at = behind
        end
        redis.call('APPEND', KEYS[1], ARGV[3])
        return 1
        """);

    /// <summary>ARGV: fence, state, status and content, life (ms), before the names of channels.</summary>
    public static Script Complete { get; } = new("""
        local head = redis.call('GETRANGE', KEYS[1], 0, 50)
        local kind = head:sub(1, 3)
        if head:sub(4, 11) ~= ARGV[1] then
          return 0
        end
        if kind == 'i1p' then
          redis.call('SET', KEYS[1], 'i1' .. ARGV[2] .. head:sub(4) .. ARGV[3], 'PX', ARGV[4])
          redis.pcall('PUBLISH', ARGV[5] .. KEYS[1], '')
          return 1
        end
        if kind == 'i1c' or kind == 'i1t' then
          return 1
        end
        return 0
        """);

    /// <summary>ARGV: fence, before the names of channels.</summary>
    public static Script Abandon { get; } = new("""
        if redis.call('GETRANGE', KEYS[1], 0, 10) ~= 'i1p' .. ARGV[1] then
          return 0
        end
        if redis.call('STRLEN', KEYS[1]) > 51 then
          redis.call('SETRANGE', KEYS[1], 2, 'a')
        else
          redis.call('DEL', KEYS[1])
        end
        redis.pcall('PUBLISH', ARGV[2] .. KEYS[1], '')
        return 1
        """);
}
