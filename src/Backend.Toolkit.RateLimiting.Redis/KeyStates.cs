using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using StackExchange.Redis;

namespace Backend.Toolkit.RateLimiting.Redis;

/// <summary>
/// What this node knows, by key, in bounded memory. When it is full, keys with nothing left to remember go, and if those are few, others: what is forgotten of a key costs a call, and the permits
/// held for it are lost, never spent twice.
/// </summary>
internal sealed class KeyStates
{
    private const int LongestText = 128;
    private const int Stripes = 64;

    private readonly ConcurrentDictionary<RateLimitKey, KeyState> _states = new();
    private readonly int[] _refunds = new int[Stripes];
    private int _count;
    private int _isSweeping;

    public int Capacity { get; set; }

    public int Count => Volatile.Read(ref _count);

    /// <summary>The key, or what stands for one that is long or has other than printable ASCII characters: as short, and as unlike any other.</summary>
    public static RateLimitKey Shortened(RateLimitKey key)
    {
        if (key.IsNumber || key == default)
        {
            return key;
        }

        string text = key.ToString();
        return text.Length <= LongestText && !text.AsSpan().ContainsAnyExceptInRange(' ', '~') ? key
            : new RateLimitKey('\0' + Convert.ToHexStringLower(SHA256.HashData(MemoryMarshal.AsBytes(text.AsSpan()))));
    }

    /// <summary>The name in the store of a shortened key. In braces is what a cluster distributes by.</summary>
    public static RedisKey StoreKey(string prefix, string name, RateLimitKey key)
    {
        string text = key.ToString();
        string kind = key == default ? "-" : key.IsNumber ? "n:" : text.StartsWith('\0') ? "h:" : "t:";
        return $"{prefix}{name}:{{{kind}{text.AsSpan().TrimStart('\0')}}}";
    }

    public KeyState? Find(RateLimitKey key) => _states.GetValueOrDefault(key);

    public KeyState GetOrAdd(RateLimitKey key, string prefix, string name, long now)
    {
        if (_states.TryGetValue(key, out KeyState? known))
        {
            return known;
        }

        // Before it is there: it has nothing to remember yet, and would be the first to go.
        if (Count >= Capacity)
        {
            Sweep(now);
        }

        var made = new KeyState(StoreKey(prefix, name, key));
        KeyState state = _states.GetOrAdd(key, made);
        if (ReferenceEquals(state, made))
        {
            Interlocked.Increment(ref _count);
        }

        return state;
    }

    /// <summary>How often permits were given back to keys of the same stripe.</summary>
    public int Refunds(RateLimitKey key) => Volatile.Read(ref _refunds[Stripe(key)]);

    /// <summary>Permits were given back to the key: what it refused, or is about to be told that it refused, counts no more.</summary>
    public void Refunded(RateLimitKey key)
    {
        Interlocked.Increment(ref _refunds[Stripe(key)]);
        Find(key)?.ForgetRefusals();
    }

    private static int Stripe(RateLimitKey key) => key.GetHashCode() & (Stripes - 1);

    /// <summary>Frees a sixteenth at least, so that each new key pays for sixteen.</summary>
    private void Sweep(long now)
    {
        if (Interlocked.Exchange(ref _isSweeping, 1) != 0)
        {
            return;
        }

        int most = Capacity - (Capacity / 16);
        foreach ((RateLimitKey key, KeyState state) in _states)
        {
            if (state.IsIdle(now))
            {
                Remove(key);
            }
        }

        foreach ((RateLimitKey key, KeyState state) in _states)
        {
            if (Count <= most)
            {
                break;
            }

            if (state.Call is null)
            {
                Remove(key);
            }
        }

        Volatile.Write(ref _isSweeping, 0);
    }

    private void Remove(RateLimitKey key)
    {
        if (_states.TryRemove(key, out _))
        {
            Interlocked.Decrement(ref _count);
        }
    }
}
