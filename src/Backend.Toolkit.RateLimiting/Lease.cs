using System.Diagnostics.CodeAnalysis;
using System.Threading.RateLimiting;

namespace Backend.Toolkit.RateLimiting;

/// <summary>The leases of the framework's face. The one that admits is shared.</summary>
internal sealed class Lease(bool isAcquired, TimeSpan? retryAfter) : RateLimitLease
{
    private static readonly string[] RetryAfterOnly = [MetadataName.RetryAfter.Name];

    public static Lease Admitted { get; } = new(true, null);

    public override bool IsAcquired => isAcquired;

    public override IEnumerable<string> MetadataNames => retryAfter is null ? [] : RetryAfterOnly;

    /// <exception cref="ArgumentOutOfRangeException">The permits can never be had: the framework's contract.</exception>
    public static Lease Of(in RateLimitDecision decision, int permits)
    {
        if (decision.IsAdmitted)
        {
            return Admitted;
        }

        TimeSpan retryAfter = decision.RetryAfter;
        return retryAfter != Timeout.InfiniteTimeSpan ? new Lease(false, retryAfter)
            : throw new ArgumentOutOfRangeException(nameof(permits), permits, "The permits must not be more than the limit ever admits at once.");
    }

    public static ValueTask<RateLimitLease> Of(ValueTask<RateLimitDecision> decision, int permits)
    {
        return decision.IsCompletedSuccessfully ? new ValueTask<RateLimitLease>(Of(decision.Result, permits)) : After(decision, permits);

        static async ValueTask<RateLimitLease> After(ValueTask<RateLimitDecision> decision, int permits) => Of(await decision.ConfigureAwait(false), permits);
    }

    public override bool TryGetMetadata(string metadataName, [NotNullWhen(true)] out object? metadata)
    {
        metadata = metadataName == MetadataName.RetryAfter.Name ? retryAfter : null;
        return metadata is not null;
    }
}
