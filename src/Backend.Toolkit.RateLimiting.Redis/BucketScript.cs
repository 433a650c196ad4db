using System.Security.Cryptography;
using System.Text;
using StackExchange.Redis;

namespace Backend.Toolkit.RateLimiting.Redis;

/// <summary>
/// The token bucket in the store: one script, one key, one round trip, the store's own clock. The key holds the instant of the last change, the permits ever given back, and for each limit
/// how many units are one token and how many are owed; it expires when nothing is owed. What drains is worked out from the instant, so a clock that went back drains nothing once, and
/// goes on from there.
/// Source: ITU-T I.371, the leaky bucket form of the generic cell rate algorithm.
/// </summary>
/// <param name="change">Tests read another clock.</param>
internal sealed class BucketScript(Func<string, string>? change = null)
{
    /// <summary>The beginning of the error for a key that holds something else.</summary>
    public const string ForeignValue = "FOREIGN";

    private readonly Script _script = new((change?.Invoke(Source) ?? Source).ReplaceLineEndings("\n"));

    private static string Source { get; } = """
        -- ARGV: the least and the most permits to grant, the limits. To settle: the permits to give back (below zero: to charge), nothing, the limits, and of the charge
        -- its instant, its permits, what had been given back before, the debts after it. Arithmetic stands where math.floor and the like would: each call costs as much as reading a value.
        local least, most, limits, settles = ARGV[1] + 0, ARGV[2] + 0, ARGV[3], ARGV[4]
        local time, state = redis.call('TIME'), redis.pcall('GET', KEYS[1])
        local now, count, unpacked = time[1] * 1000000 + time[2], #limits / 24, struct.unpack
        local at, refunded, known, same, valid = now, 0, 0, true, true
        if state then
          valid = type(state) == 'string' and #state >= 34 and #state <= 82 and #state % 16 == 2 and state:sub(1, 2) == 'b1'
          if valid then
            known, at, refunded = (#state - 18) / 16, unpacked('>dd', state, 3)
            valid = at >= 0 and at < 9007199254740992 and refunded >= 0 and refunded < 4503599627370496 and at % 1 + refunded % 1 == 0
          end
        end
        local elapsed, write = now - at, false
        if elapsed < 0 then
          elapsed, write = 0, true
        end
        local units, gains, debts, granted = {}, {}, {}, most
        for i = 1, count do
          local unit, gain, burst = unpacked('>ddd', limits, i * 24 - 23)
          local debt = 0
          if valid and i <= known then
            local was
            was, debt = unpacked('>dd', state, i * 16 + 3)
            valid = was >= 1 and debt >= 0 and was % 1 + debt % 1 == 0
            if was ~= unit then
              debt = debt / was * unit
              same = false
            end
            debt = (debt < 4503599627370496 and debt or 4503599627370496) - elapsed * gain
            debt = debt > 0 and debt + -debt % 1 or 0
          end
          local room = (burst - debt) / unit
          granted = room < granted and room - room % 1 or granted
          units[i], gains[i], debts[i] = unit, gain, debt
        end
        if not valid then
          return type(state) == 'table' and state.err:sub(1, 9) ~= 'WRONGTYPE' and state or redis.error_reply('FOREIGN the key holds no token bucket')
        end
        if not settles then
          if least == 0 or granted < least then
            granted = 0
          end
        elseif least < 0 then
          granted = -least
        else
          granted = 0
          if state and same and known == count then
            local since, permits, earlier = now - ARGV[4], tonumber(ARGV[5]), (refunded - ARGV[6]) % 4503599627370496
            for i = 1, count do
              local after = tonumber(ARGV[6 + i])
              local missing = after - math.min(math.max(0, after - permits * units[i]), earlier * units[i]) - math.max(0, since) * gains[i]
              debts[i] = math.max(0, debts[i] - math.max(0, math.min(least * units[i], math.floor(missing))))
            end
            refunded, write = (refunded + least) % 4503599627370496, true
          end
        end
        if granted > 0 or write then
          local value, milliseconds = 'b1' .. struct.pack('>dd', now, refunded), 1
          for i = 1, count do
            local debt = debts[i] + granted * units[i]
            debts[i] = debt < 4503599627370496 and debt or 4503599627370496
            local life = debts[i] / gains[i] / 1000
            milliseconds = life > milliseconds and life - life % 1 + 1 or milliseconds
            value = value .. struct.pack('>dd', units[i], debts[i])
          end
          if granted > 0 then
            redis.call('SET', KEYS[1], value, 'PX', milliseconds + 1)
          else
            redis.call('SET', KEYS[1], value, 'KEEPTTL')
          end
        end
        return struct.pack(count == 1 and '>dddd' or '>ddd' .. string.rep('d', count), granted, now, refunded, unpack(debts))
        """;

    /// <summary>Grants as many permits as fit, between the least and the most, or none; a least of 0 only looks.</summary>
    /// <exception cref="RedisException">The store did not do it.</exception>
    /// <exception cref="FormatException">The answer is none of this script.</exception>
    public async Task<BucketReply> AcquireAsync(IDatabaseAsync database, RedisKey key, BucketPlan plan, int least, int most)
    {
        RedisResult result = await EvaluateAsync(database, key, [least, most, plan.Packed]).ConfigureAwait(false);
        return BucketReply.Parse(result, plan, most);
    }

    /// <summary>
    /// Gives back permits of a charge (below zero: charges more, as debt). Never leaves the bucket more permissive than if they had not been charged: what has drained since is not given back
    /// once more. The key lives as long as without the refund, so that a charge always finds the state that it changed.
    /// </summary>
    /// <exception cref="RedisException">The store did not do it.</exception>
    public Task SettleAsync(IDatabaseAsync database, RedisKey key, BucketReply charge, int permits, long back) =>
        EvaluateAsync(database, key, [back, 0, charge.Plan.Packed, charge.At, permits, charge.Refunded, .. charge.Debts.Select(debt => (RedisValue)(long)debt)]);

    /// <summary>By its hash; by its text where the server has forgotten it, or never knew it. (The driver would look the hash up by the text, which costs as much as the call.)</summary>
    private async Task<RedisResult> EvaluateAsync(IDatabaseAsync database, RedisKey key, RedisValue[] values)
    {
        RedisKey[] keys = [key];
        try
        {
            return await database.ScriptEvaluateAsync(_script.Hash, keys, values).ConfigureAwait(false);
        }
        catch (RedisServerException exception) when (exception.Message.StartsWith("NOSCRIPT", StringComparison.Ordinal))
        {
            return await database.ScriptEvaluateAsync(_script.Text, keys, values).ConfigureAwait(false);
        }
    }

    private sealed class Script(string text)
    {
        public string Text => text;

        /// <summary>Redis knows scripts by their SHA-1.</summary>
        public byte[] Hash { get; } = CryptographicOperations.HashData(HashAlgorithmName.SHA1, Encoding.UTF8.GetBytes(text));
    }
}
