using System.Runtime.InteropServices;

namespace Backend.Toolkit.RetryPolicies;

/// <summary>
/// gRPC's retry throttling, proposal A6: a failure takes one token, a success gives back a fraction of one, and a retry needs more than half of
/// the tokens. Tokens, their maximum and the fraction are integers in thousandths and live in one 64-bit word, so every change is one
/// compare-and-swap that cannot see half of a reload; success at the full level is one volatile read.
/// </summary>
internal sealed class TokenThrottle
{
    private const int Bits = 20;
    private const long Mask = (1L << Bits) - 1;
    private const long OneToken = 1000;

    private PaddedWord _word;

    public TokenThrottle(RetryBudgetOptions options) => _word.Value = Pack(options.MaxTokens * OneToken, options);

    public double Tokens => (double)(Volatile.Read(ref _word.Value) & Mask) / OneToken;

    /// <summary>Whether a success would change nothing: what nearly every call finds, so it is kept small.</summary>
    public bool IsFull
    {
        get
        {
            long word = Volatile.Read(ref _word.Value);
            return ((word ^ word >> Bits) & Mask) == 0;
        }
    }

    /// <summary>True for the success that filled it up.</summary>
    public bool OnSuccess()
    {
        long word = Volatile.Read(ref _word.Value);
        while (true)
        {
            (long tokens, long max, long ratio) = Unpack(word);
            if (tokens >= max)
            {
                return false;
            }

            long left = Math.Min(tokens + ratio, max);
            long seen = Interlocked.CompareExchange(ref _word.Value, word - tokens + left, word);
            if (seen == word)
            {
                return left == max;
            }

            word = seen;
        }
    }

    /// <summary>True when this failure, counted, leaves more than half.</summary>
    public bool OnFailure()
    {
        long word = Volatile.Read(ref _word.Value);
        while (true)
        {
            (long tokens, long max, _) = Unpack(word);
            long left = Math.Max(tokens - OneToken, 0);
            long seen = left == tokens ? word : Interlocked.CompareExchange(ref _word.Value, word - tokens + left, word);
            if (seen == word)
            {
                return left * 2 > max;
            }

            word = seen;
        }
    }

    /// <summary>Keeps how full it is, as gRPC does: half of the tokens stays half, so raising the maximum does not throttle.</summary>
    public void Update(RetryBudgetOptions options)
    {
        long word = Volatile.Read(ref _word.Value);
        while (true)
        {
            (long tokens, long max, _) = Unpack(word);
            long seen = Interlocked.CompareExchange(ref _word.Value, Pack(tokens * options.MaxTokens * OneToken / max, options), word);
            if (seen == word)
            {
                return;
            }

            word = seen;
        }
    }

    private static long Pack(long tokens, RetryBudgetOptions options) =>
        tokens | options.MaxTokens * OneToken << Bits | (long)Math.Round(options.TokenRatio * OneToken) << Bits * 2;

    private static (long Tokens, long Max, long Ratio) Unpack(long word) => (word & Mask, word >> Bits & Mask, word >> Bits * 2);

    /// <summary>Every call reads the word: nothing that others write may share its cache line, nor the line fetched with it.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 256)]
    private struct PaddedWord
    {
        [FieldOffset(128)]
        public long Value;
    }
}
