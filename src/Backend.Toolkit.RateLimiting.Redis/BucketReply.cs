using System.Buffers.Binary;
using StackExchange.Redis;

namespace Backend.Toolkit.RateLimiting.Redis;

/// <summary>What the script answered: how many permits it granted, and the state right after.</summary>
internal sealed class BucketReply(BucketPlan plan, int granted, long at, long refunded, double[] debts)
{
    private const long Largest = 1L << 53;

    public BucketPlan Plan => plan;

    public int Granted => granted;

    /// <summary>Microseconds of the store's clock.</summary>
    public long At => at;

    /// <summary>Permits ever given back to the key.</summary>
    public long Refunded => refunded;

    /// <summary>In units of the plan.</summary>
    public double[] Debts => debts;

    /// <summary>Reads an answer.</summary>
    /// <exception cref="FormatException">It is none of the script.</exception>
    public static BucketReply Parse(RedisResult result, BucketPlan plan, int most)
    {
        int limits = plan.Limits.Count;
        if (result.Resp2Type != ResultType.BulkString || (byte[]?)result is not { } bytes || bytes.Length != (3 + limits) * sizeof(double))
        {
            throw new FormatException($"The store must answer with {3 + limits} numbers, but did with {result.Resp2Type}. Is it a Redis server that runs scripts?");
        }

        double[] debts = new double[limits];
        for (int i = 0; i < limits; i++)
        {
            debts[i] = Number(bytes, 3 + i, Largest);
        }

        return new BucketReply(plan, (int)Number(bytes, 0, most), Number(bytes, 1, Largest), Number(bytes, 2, Largest), debts);
    }

    private static long Number(byte[] bytes, int index, long largest)
    {
        double number = BinaryPrimitives.ReadDoubleBigEndian(bytes.AsSpan(index * sizeof(double)));
        return number >= 0 && number <= largest && number == Math.Floor(number) ? (long)number
            : throw new FormatException(FormattableString.Invariant($"Number {index} of the store's answer must be whole and between 0 and {largest}, but is {number:R}."));
    }
}
