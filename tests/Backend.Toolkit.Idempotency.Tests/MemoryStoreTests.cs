using System.Security.Cryptography;
using Microsoft.Extensions.Options;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.Idempotency.Tests;

/// <summary>What the store in memory promises beyond what all stores do: bounds.</summary>
public sealed class MemoryStoreTests
{
    private static readonly TimeSpan Lease = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan Retention = TimeSpan.FromHours(1);

    private readonly FakeTimeProvider _time = new();
    private readonly LogList _log = new();

    private MemoryIdempotencyStore Store(int records = 3, long bytes = 1000) => new(new MemoryIdempotencyStoreOptions { Name = "memory", MaxRecords = records, MaxBytes = bytes }, _time, _log);

    private static IdempotencyClaimRequest Request() => new()
    {
        Key = new IdempotencyDigest(RandomNumberGenerator.GetBytes(32)),
        Fingerprint = default,
        Lease = Lease,
        Retention = Retention,
    };

    private static async Task ShouldRefuseAsync(MemoryIdempotencyStore store)
    {
        Func<Task> begin = async () => await store.BeginAsync(Request());
        (await begin.Should().ThrowAsync<IdempotencyStoreException>()).WithMessage("The store in memory is full of live records (*");
    }

    [Fact]
    public async Task Full_of_live_records_it_refuses_new_keys_and_forgets_none()
    {
        MemoryIdempotencyStore store = Store();
        IdempotencyClaimRequest[] requests = [Request(), Request(), Request()];
        IdempotencyClaim[] claims = [await store.BeginAsync(requests[0]), await store.BeginAsync(requests[1]), await store.BeginAsync(requests[2])];
        await store.CompleteAsync(claims[0].Key, claims[0].Fence, new IdempotencyOutcome(200, new byte[10]), Retention);
        _time.Advance(Lease);

        await ShouldRefuseAsync(store);
        await ShouldRefuseAsync(store);

        (await store.BeginAsync(requests[0])).Status.Should().Be(IdempotencyClaimStatus.Completed);
        (await store.BeginAsync(requests[1])).Status.Should().Be(IdempotencyClaimStatus.Started, "a takeover needs no room");
        (await store.CompleteAsync(claims[2].Key, claims[2].Fence, new IdempotencyOutcome(200, new byte[10]), Retention)).Should().BeTrue();
        store.Count.Should().Be(3);
        _log.Entries.Should().ContainSingle().Which.Message.Should().StartWith("Idempotency store 'memory' is full of live records (3 records, 10 bytes)");
    }

    [Fact]
    public async Task It_has_room_again_when_records_expire_or_are_given_back()
    {
        MemoryIdempotencyStore store = Store();
        await store.BeginAsync(Request());
        _time.Advance(Retention / 2);
        IdempotencyClaim second = await store.BeginAsync(Request());
        await store.BeginAsync(Request());
        await ShouldRefuseAsync(store);

        await store.AbandonAsync(second.Key, second.Fence);
        await store.BeginAsync(Request());
        await ShouldRefuseAsync(store);
        _time.Advance(Retention / 2);
        await store.BeginAsync(Request());

        await ShouldRefuseAsync(store);
        store.Count.Should().Be(3);
        _time.Advance(2 * Retention);
        await store.BeginAsync(Request());
        store.Count.Should().Be(1);
    }

    [Fact]
    public async Task Bytes_are_counted_and_bound_new_keys_only()
    {
        MemoryIdempotencyStore store = Store(records: 100);
        IdempotencyClaim first = await store.BeginAsync(Request());
        IdempotencyClaim second = await store.BeginAsync(Request());
        await store.SavePhaseAsync(first.Key, first.Fence, "a", new byte[400]);
        await store.SavePhaseAsync(first.Key, first.Fence, "a", new byte[500]);
        await store.SavePhaseAsync(first.Key, first.Fence, "b", new byte[300]);
        long phases = store.Bytes;
        await store.SavePhaseAsync(second.Key, second.Fence, "a", new byte[200]);

        await ShouldRefuseAsync(store);
        bool completed = await store.CompleteAsync(second.Key, second.Fence, new IdempotencyOutcome(200, new byte[2000]), Retention);
        long both = store.Bytes;
        await store.CompleteAsync(first.Key, first.Fence, IdempotencyOutcome.Tombstone(200), 2 * Retention);
        _time.Advance(Retention);
        await store.BeginAsync(Request());

        (phases, completed, both).Should().Be((800, true, 2800));
        (store.Bytes, store.Count).Should().Be((0, 2));
    }

    [Fact]
    public async Task Phases_of_a_record_that_expires_are_given_back()
    {
        MemoryIdempotencyStore store = Store();
        IdempotencyClaim claim = await store.BeginAsync(Request());
        await store.SavePhaseAsync(claim.Key, claim.Fence, "a", new byte[1000]);
        await ShouldRefuseAsync(store);

        _time.Advance(Retention);
        await store.BeginAsync(Request());

        store.Bytes.Should().Be(0);
    }

    [Fact]
    public async Task Other_bounds_hold_at_once_and_keep_all_records()
    {
        MemoryIdempotencyStore store = Store();
        IdempotencyClaimRequest kept = Request();
        await store.BeginAsync(kept);
        await store.BeginAsync(Request());

        store.Update(new MemoryIdempotencyStoreOptions { MaxRecords = 1 });
        await ShouldRefuseAsync(store);
        int count = store.Count;
        store.Update(new MemoryIdempotencyStoreOptions { MaxRecords = 3 });
        await store.BeginAsync(Request());

        count.Should().Be(2);
        (await store.BeginAsync(kept)).Status.Should().Be(IdempotencyClaimStatus.InProgress);
        Action invalid = () => store.Update(new MemoryIdempotencyStoreOptions { MaxRecords = 0 });
        invalid.Should().Throw<OptionsValidationException>();
        await ShouldRefuseAsync(store);
    }

    [Fact]
    public async Task Fences_grow_also_when_the_clock_stands_still_or_goes_back()
    {
        var time = new TurningTime();
        var store = new MemoryIdempotencyStore(new MemoryIdempotencyStoreOptions(), time);
        var fences = new List<long>();
        IdempotencyClaimRequest request = Request();

        for (int i = 0; i < 6; i++)
        {
            time.Now = time.Now.AddHours(i % 2 == 0 ? 0 : -1);
            IdempotencyClaim claim = await store.BeginAsync(request);
            fences.Add(claim.Fence);
            await store.AbandonAsync(claim.Key, claim.Fence);
        }

        fences.Should().BeInAscendingOrder().And.OnlyHaveUniqueItems();
        fences[0].Should().Be(TurningTime.Start.ToUnixTimeMilliseconds() * 1000);
    }

    [Fact]
    public async Task A_claim_holds_the_phases_as_they_were_when_it_was_made()
    {
        MemoryIdempotencyStore store = Store();
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim first = await store.BeginAsync(request);
        await store.SavePhaseAsync(first.Key, first.Fence, "a", new byte[1]);
        _time.Advance(Lease);
        IdempotencyClaim second = await store.BeginAsync(request);

        await store.SavePhaseAsync(second.Key, second.Fence, "b", new byte[1]);

        second.Phases.Keys.Should().Equal("a");
    }

    [Fact]
    public async Task A_waiter_is_woken_when_the_record_expires_under_it()
    {
        MemoryIdempotencyStore store = Store();
        IdempotencyClaim owner = await store.BeginAsync(Request());
        Task wait = store.WaitAsync(owner.Key, owner.Fence, TimeSpan.FromDays(10)).AsTask();

        _time.Advance(Retention);
        await store.BeginAsync(Request());

        await wait.WaitAsync(TimeSpan.FromSeconds(30), TimeProvider.System);
    }

    [Fact]
    public void A_digest_has_exactly_32_bytes_and_is_equal_to_the_same_ones()
    {
        byte[] bytes = RandomNumberGenerator.GetBytes(32);
        Action shorter = () => _ = new IdempotencyDigest(bytes.AsSpan(1));
        var digest = new IdempotencyDigest(bytes);

        shorter.Should().Throw<ArgumentException>();
        digest.ToArray().Should().Equal(bytes);
        digest.ToString().Should().Be(Convert.ToHexString(bytes).ToLowerInvariant());
        (digest == new IdempotencyDigest(bytes)).Should().BeTrue();
        digest.Equals((object)new IdempotencyDigest(bytes)).Should().BeTrue();
        digest.GetHashCode().Should().Be(new IdempotencyDigest(bytes).GetHashCode());
        for (int i = 0; i < 32; i++)
        {
            byte[] other = [.. bytes];
            other[i] ^= 1;
            (digest != new IdempotencyDigest(other)).Should().BeTrue();
        }
    }

    [Fact]
    public async Task Nothing_is_lost_under_contention()
    {
        var store = new MemoryIdempotencyStore(new MemoryIdempotencyStoreOptions { MaxRecords = 50 }, _time);
        IdempotencyClaimRequest[] requests = [.. Enumerable.Range(0, 100).Select(_ => Request())];
        int[] owners = new int[100];
        int refused = 0;

        await Task.WhenAll(Enumerable.Range(0, 16).Select(worker => Task.Run(async () =>
        {
            var random = new Random(worker);
            for (int i = 0; i < 5_000; i++)
            {
                int index = random.Next(requests.Length);
                try
                {
                    IdempotencyClaim claim = await store.BeginAsync(requests[index]);
                    if (claim.Status == IdempotencyClaimStatus.Started)
                    {
                        Interlocked.Increment(ref owners[index]).Should().Be(1);
                        Interlocked.Decrement(ref owners[index]);
                        (await store.AbandonAsync(claim.Key, claim.Fence)).Should().BeTrue();
                    }
                }
                catch (IdempotencyStoreException)
                {
                    Interlocked.Increment(ref refused);
                }
            }
        })));

        refused.Should().Be(0, "16 workers hold at most 16 keys");
        (store.Count, store.Bytes).Should().Be((0, 0));
    }

    /// <summary>A wall clock that a test may turn back, and a monotonic one that stands still.</summary>
    private sealed class TurningTime : TimeProvider
    {
        public static DateTimeOffset Start { get; } = new(2026, 7, 1, 0, 0, 0, TimeSpan.Zero);

        public DateTimeOffset Now { get; set; } = Start;

        public override DateTimeOffset GetUtcNow() => Now;

        public override long GetTimestamp() => 1;
    }

    [Fact]
    public async Task That_it_is_full_is_told_once_and_not_as_an_outage_between_its_answers()
    {
        var log = new LogList();
        var store = new MemoryIdempotencyStore(new MemoryIdempotencyStoreOptions { Name = "", MaxRecords = 1 }, _time, log);
        var executor = new IdempotentExecutor(store, new IdempotencyOptions { Name = "orders" }, _time, log);
        await executor.ExecuteAsync("kept", default, (_, _) => ValueTask.CompletedTask);

        for (int i = 0; i < 100; i++)
        {
            Func<Task> refused = async () => await executor.ExecuteAsync("new", default, (_, _) => ValueTask.CompletedTask);
            await refused.Should().ThrowAsync<IdempotencyStoreException>();
            await executor.ExecuteAsync("kept", default, (_, _) => ValueTask.CompletedTask);
        }

        log.Entries.Should().ContainSingle().Which.Id.Should().Be(8);
    }

    [Fact]
    public async Task A_waiter_is_woken_when_another_takes_over_from_whom_it_waits_for()
    {
        var store = new MemoryIdempotencyStore(new MemoryIdempotencyStoreOptions(), _time);
        var request = new IdempotencyClaimRequest { Key = default, Fingerprint = default, Lease = TimeSpan.FromSeconds(30), Retention = TimeSpan.FromHours(1) };
        IdempotencyClaim owner = await store.BeginAsync(request);
        Task waiting = store.WaitAsync(owner.Key, owner.Fence, TimeSpan.FromHours(1)).AsTask();
        _time.Advance(TimeSpan.FromSeconds(30));

        (await store.BeginAsync(request)).Status.Should().Be(IdempotencyClaimStatus.Started);

        await waiting.WaitAsync(TimeSpan.FromSeconds(10), TimeProvider.System);
    }
}
