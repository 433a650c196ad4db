using System.Threading.RateLimiting;
using Microsoft.Extensions.Time.Testing;
using static Backend.Toolkit.RateLimiting.Tests.Limiters;

namespace Backend.Toolkit.RateLimiting.Tests;

/// <summary>What the framework documents for every <see cref="RateLimiter"/>, asked of its own face.</summary>
public abstract class FrameworkContractTests
{
    private static TimeSpan Long { get; } = TimeSpan.FromSeconds(30);

    protected FakeTimeProvider Time { get; } = new();

    /// <summary>So many permits, which all come back within 10 s when nobody asks, one in 10 s ÷ permits of a bucket.</summary>
    protected abstract RateLimiter New(int permits, int queueLimit = 0, QueueProcessingOrder order = QueueProcessingOrder.OldestFirst);

    [Fact]
    public void What_is_there_is_acquired_and_no_more()
    {
        RateLimiter limiter = New(3);

        limiter.AttemptAcquire(2).IsAcquired.Should().BeTrue();
        limiter.AttemptAcquire(2).IsAcquired.Should().BeFalse();
        limiter.AttemptAcquire(1).IsAcquired.Should().BeTrue();
        limiter.AttemptAcquire(1).IsAcquired.Should().BeFalse();
    }

    [Fact]
    public async Task Zero_permits_tell_whether_one_could_be_had()
    {
        RateLimiter limiter = New(1);

        limiter.AttemptAcquire(0).IsAcquired.Should().BeTrue();
        (await limiter.AcquireAsync(0)).IsAcquired.Should().BeTrue();
        limiter.AttemptAcquire(1).IsAcquired.Should().BeTrue();
        limiter.AttemptAcquire(0).IsAcquired.Should().BeFalse();
    }

    [Fact]
    public async Task More_than_the_limit_and_less_than_nothing_throw()
    {
        RateLimiter limiter = New(3);

        limiter.Invoking(it => it.AttemptAcquire(4)).Should().Throw<ArgumentOutOfRangeException>();
        limiter.Invoking(it => it.AttemptAcquire(-1)).Should().Throw<ArgumentOutOfRangeException>();
        await limiter.Awaiting(it => it.AcquireAsync(4).AsTask()).Should().ThrowAsync<ArgumentOutOfRangeException>();
        await limiter.Awaiting(it => it.AcquireAsync(-1).AsTask()).Should().ThrowAsync<ArgumentOutOfRangeException>();
    }

    [Fact]
    public void A_refused_lease_says_when_to_come_back()
    {
        RateLimiter limiter = New(1);
        limiter.AttemptAcquire();

        RateLimitLease lease = limiter.AttemptAcquire();

        lease.MetadataNames.Should().Equal(MetadataName.RetryAfter.Name);
        lease.TryGetMetadata(MetadataName.RetryAfter, out TimeSpan retryAfter).Should().BeTrue();
        Time.Advance(retryAfter - TimeSpan.FromTicks(1));
        limiter.AttemptAcquire().IsAcquired.Should().BeFalse();
        Time.Advance(TimeSpan.FromTicks(1));
        limiter.AttemptAcquire().IsAcquired.Should().BeTrue();
    }

    [Fact]
    public async Task The_oldest_of_those_who_wait_is_next_and_nobody_overtakes()
    {
        RateLimiter limiter = New(2, queueLimit: 10);
        limiter.AttemptAcquire(2);
        Task<RateLimitLease> first = limiter.AcquireAsync(2).AsTask(), second = limiter.AcquireAsync(1).AsTask();

        Time.Advance(TimeSpan.FromSeconds(5));
        limiter.AttemptAcquire(1).IsAcquired.Should().BeFalse();
        AdvanceUntil(first);

        second.IsCompleted.Should().BeFalse();
        AdvanceUntil(second);
        (await first).IsAcquired.Should().BeTrue();
        (await second).IsAcquired.Should().BeTrue();
    }

    [Fact]
    public async Task The_newest_is_next_where_so_configured()
    {
        RateLimiter limiter = New(2, queueLimit: 10, QueueProcessingOrder.NewestFirst);
        limiter.AttemptAcquire(2);
        Task<RateLimitLease> first = limiter.AcquireAsync(2).AsTask(), second = limiter.AcquireAsync(1).AsTask();

        AdvanceUntil(second);

        first.IsCompleted.Should().BeFalse();
        AdvanceUntil(first);
        (await first).IsAcquired.Should().BeTrue();
    }

    [Fact]
    public async Task A_full_queue_refuses_the_newcomer_when_the_oldest_is_first()
    {
        RateLimiter limiter = New(3, queueLimit: 3);
        limiter.AttemptAcquire(3);
        Task<RateLimitLease> waits = limiter.AcquireAsync(2).AsTask();

        RateLimitLease refused = await limiter.AcquireAsync(2).AsTask().WaitAsync(Long);

        refused.IsAcquired.Should().BeFalse();
        refused.TryGetMetadata(MetadataName.RetryAfter, out TimeSpan retryAfter).Should().BeTrue();
        retryAfter.Should().BePositive();
        waits.IsCompleted.Should().BeFalse();
        limiter.GetStatistics()!.CurrentQueuedCount.Should().Be(2);
    }

    [Fact]
    public async Task A_full_queue_refuses_the_oldest_when_the_newest_is_first()
    {
        RateLimiter limiter = New(3, queueLimit: 3, QueueProcessingOrder.NewestFirst);
        limiter.AttemptAcquire(3);
        Task<RateLimitLease> first = limiter.AcquireAsync(1).AsTask(), second = limiter.AcquireAsync(2).AsTask();

        Task<RateLimitLease> third = limiter.AcquireAsync(2).AsTask();

        (await first.WaitAsync(Long)).IsAcquired.Should().BeFalse();
        (await second.WaitAsync(Long)).IsAcquired.Should().BeFalse();
        third.IsCompleted.Should().BeFalse();
        limiter.GetStatistics()!.CurrentQueuedCount.Should().Be(2);
    }

    [Fact]
    public async Task What_is_cancelled_before_the_call_charges_nothing()
    {
        RateLimiter limiter = New(1, queueLimit: 1);

        await limiter.Awaiting(it => it.AcquireAsync(1, new CancellationToken(canceled: true)).AsTask()).Should().ThrowAsync<OperationCanceledException>();

        limiter.AttemptAcquire(1).IsAcquired.Should().BeTrue();
    }

    [Fact]
    public async Task What_is_cancelled_in_the_queue_leaves_it_and_charges_nothing()
    {
        RateLimiter limiter = New(2, queueLimit: 5);
        limiter.AttemptAcquire(2);
        using var source = new CancellationTokenSource();
        Task<RateLimitLease> cancelled = limiter.AcquireAsync(2, source.Token).AsTask();
        Task<RateLimitLease> next = limiter.AcquireAsync(1).AsTask();

        await source.CancelAsync();

        (await cancelled.Awaiting(it => it).Should().ThrowAsync<OperationCanceledException>()).Which.CancellationToken.Should().Be(source.Token);
        limiter.GetStatistics()!.CurrentQueuedCount.Should().Be(1);
        AdvanceUntil(next);
        Time.Advance(TimeSpan.FromSeconds(60));
        limiter.GetStatistics()!.CurrentQueuedCount.Should().Be(0);
        limiter.GetStatistics()!.CurrentAvailablePermits.Should().Be(2);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Disposed_it_refuses_those_who_wait_and_throws_at_newcomers(bool asynchronously)
    {
        RateLimiter limiter = New(1, queueLimit: 1);
        limiter.AttemptAcquire();
        Task<RateLimitLease> waits = limiter.AcquireAsync().AsTask();

        if (asynchronously)
        {
            await limiter.DisposeAsync();
        }
        else
        {
            limiter.Dispose();
        }

        (await waits.WaitAsync(Long)).IsAcquired.Should().BeFalse();
        limiter.Invoking(it => it.AttemptAcquire()).Should().Throw<ObjectDisposedException>();
        await limiter.Awaiting(it => it.AcquireAsync().AsTask()).Should().ThrowAsync<ObjectDisposedException>();
    }

    [Fact]
    public async Task It_is_idle_exactly_while_it_is_as_if_never_used()
    {
        RateLimiter limiter = New(1, queueLimit: 1);
        limiter.IdleDuration.Should().Be(TimeSpan.Zero);
        Time.Advance(TimeSpan.FromDays(100));
        limiter.IdleDuration.Should().Be(TimeSpan.FromDays(100));

        limiter.AttemptAcquire();
        limiter.IdleDuration.Should().BeNull();
        Task<RateLimitLease> waits = limiter.AcquireAsync().AsTask();
        AdvanceUntil(waits);
        limiter.IdleDuration.Should().BeNull();
        (await waits).IsAcquired.Should().BeTrue();
        Time.Advance(TimeSpan.FromDays(100));

        limiter.IdleDuration.Should().BeGreaterThan(TimeSpan.FromDays(99)).And.BeLessThan(TimeSpan.FromDays(100));
    }

    [Fact]
    public void Statistics_count_from_the_first_look()
    {
        RateLimiter limiter = New(5);
        limiter.GetStatistics()!.CurrentAvailablePermits.Should().Be(5);

        limiter.AttemptAcquire(2);
        limiter.AttemptAcquire(4);

        RateLimiterStatistics statistics = limiter.GetStatistics()!;
        (statistics.CurrentAvailablePermits, statistics.CurrentQueuedCount, statistics.TotalSuccessfulLeases, statistics.TotalFailedLeases).Should().Be((3, 0, 1, 1));
    }

    [Fact]
    public void It_serves_as_a_partition_of_the_framework()
    {
        using var partitioned = PartitionedRateLimiter.Create<string, string>(key => RateLimitPartition.Get(key, _ => New(1)));

        partitioned.AttemptAcquire("a").IsAcquired.Should().BeTrue();
        partitioned.AttemptAcquire("a").IsAcquired.Should().BeFalse();
        partitioned.AttemptAcquire("b").IsAcquired.Should().BeTrue();
    }

    private void AdvanceUntil(Task task)
    {
        for (int i = 0; i < 100 && !task.IsCompleted; i++)
        {
            Time.Advance(TimeSpan.FromSeconds(0.5));
            SpinWait.SpinUntil(() => task.IsCompleted, TimeSpan.FromMilliseconds(5));
        }

        task.IsCompleted.Should().BeTrue();
    }

    public sealed class OfTheBucket : FrameworkContractTests
    {
        protected override RateLimiter New(int permits, int queueLimit = 0, QueueProcessingOrder order = QueueProcessingOrder.OldestFirst) =>
            new TokenBucketLimiter(With(new TokenBucketLimiterOptions { QueueLimit = queueLimit, QueueProcessingOrder = order }, Per(permits, 10)), Time);
    }

    public sealed class OfTheEstimate : FrameworkContractTests
    {
        protected override RateLimiter New(int permits, int queueLimit = 0, QueueProcessingOrder order = QueueProcessingOrder.OldestFirst) =>
            new SlidingWindowLimiter(With(new SlidingWindowLimiterOptions { QueueLimit = queueLimit, QueueProcessingOrder = order }, Per(permits, 5)), Time);
    }

    public sealed class OfTheExactWindow : FrameworkContractTests
    {
        protected override RateLimiter New(int permits, int queueLimit = 0, QueueProcessingOrder order = QueueProcessingOrder.OldestFirst) =>
            new SlidingWindowLimiter(With(new SlidingWindowLimiterOptions { Mode = SlidingWindowMode.Exact, QueueLimit = queueLimit, QueueProcessingOrder = order }, Per(permits, 10)), Time);
    }
}
