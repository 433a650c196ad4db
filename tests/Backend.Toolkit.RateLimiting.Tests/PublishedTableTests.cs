using Microsoft.Extensions.Time.Testing;
using static Backend.Toolkit.RateLimiting.Tests.Limiters;

namespace Backend.Toolkit.RateLimiting.Tests;

/// <summary>The table that throttled (github.com/throttled/throttled) and redis-cell publish for GCRA: limit 5, 1 a second.</summary>
public sealed class PublishedTableTests
{
    [Fact]
    public void The_bucket_says_what_the_published_table_says()
    {
        (double At, int Cost, bool Admitted, int Remaining, double Reset, double Retry)[] table =
        [
            (0, 6, false, 5, 0, -1),
            (0, 1, true, 4, 1, 0),
            (0, 1, true, 3, 2, 0),
            (0, 1, true, 2, 3, 0),
            (0, 1, true, 1, 4, 0),
            (0, 1, true, 0, 5, 0),
            (0, 1, false, 0, 5, 1),
            (3.0, 1, true, 2, 3, 0),
            (3.1, 1, true, 1, 3.9, 0),
            (4.0, 1, true, 1, 4.0, 0),
            (8.0, 1, true, 4, 1.0, 0),
            (9.5, 1, true, 4, 1.0, 0),
            (9.5, 0, true, 4, 1.0, 0),
            (9.5, 2, true, 2, 3.0, 0),
            (9.5, 5, false, 2, 3.0, 3.0),
            (15, 6, false, 5, 0, -1),
        ];
        FakeTimeProvider time = new();
        DateTimeOffset start = time.GetUtcNow();
        TokenBucketLimiter limiter = Bucket(time, PerSecond(1, burst: 5));

        foreach (var row in table)
        {
            time.SetUtcNow(start.AddSeconds(row.At));
            bool admitted = limiter.TryAcquire(row.Cost, out RateLimitDecision decision);

            (row.At, row.Cost, admitted, decision.Remaining, decision.ResetAfter, decision.RetryAfter).Should().Be((
                row.At, row.Cost, row.Admitted, (long)row.Remaining, TimeSpan.FromSeconds(row.Reset), row.Retry < 0 ? Timeout.InfiniteTimeSpan : TimeSpan.FromSeconds(row.Retry)));
        }
    }
}
