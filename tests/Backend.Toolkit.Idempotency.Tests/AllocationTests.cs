using System.Security.Cryptography;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.Idempotency.Tests;

/// <remarks>One after the other: whoever listens to the meter makes everybody's calls cost memory, and all share one heap.</remarks>
[Collection("telemetry")]
public sealed class AllocationTests
{
    private static readonly byte[] Body = RandomNumberGenerator.GetBytes(1000);

    private static long Measure(Action action)
    {
        for (int i = 0; i < 100; i++)
        {
            action();
        }

        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 100; i++)
        {
            action();
        }

        return (GC.GetAllocatedBytesForCurrentThread() - before) / 100;
    }

    [Fact]
    public void A_key_is_checked_and_hashed_without_an_allocation()
    {
        string key = Guid.NewGuid().ToString();
        byte[] secret = RandomNumberGenerator.GetBytes(32);

        long allocated = Measure(() =>
        {
            IdempotentExecutor.KeyProblem(key);
            KeyHash.Compute(null, "key", "orders", "somebody", key);
            KeyHash.Compute(secret, "key", "orders", "somebody", key);
            KeyHash.Fingerprint(Body);
        });

        allocated.Should().Be(0);
    }

    [Fact]
    public async Task The_store_in_memory_replays_and_renews_without_an_allocation()
    {
        var store = new MemoryIdempotencyStore(new MemoryIdempotencyStoreOptions());
        var running = new IdempotencyClaimRequest { Key = new(RandomNumberGenerator.GetBytes(32)), Fingerprint = default, Lease = TimeSpan.FromHours(1), Retention = TimeSpan.FromDays(1) };
        IdempotencyClaimRequest completed = running with { Key = new(RandomNumberGenerator.GetBytes(32)) };
        IdempotencyClaim owner = await store.BeginAsync(running);
        IdempotencyClaim ended = await store.BeginAsync(completed);
        await store.CompleteAsync(ended.Key, ended.Fence, new IdempotencyOutcome(200, Body), TimeSpan.FromDays(1));

        long allocated = Measure(() =>
        {
            if (store.BeginAsync(completed).Result.Outcome is null
                || store.BeginAsync(running).Result.Status != IdempotencyClaimStatus.InProgress
                || !store.RenewAsync(owner.Key, owner.Fence, TimeSpan.FromHours(1)).Result
                || store.RenewAsync(owner.Key, owner.Fence + 1, TimeSpan.FromHours(1)).Result)
            {
                throw new InvalidOperationException();
            }
        });

        allocated.Should().Be(0);
    }

    [Fact]
    public async Task A_replay_from_memory_allocates_its_operation_alone()
    {
        var executor = new IdempotentExecutor(new MemoryIdempotencyStore(new MemoryIdempotencyStoreOptions()), new IdempotencyOptions { Name = "orders" });
        var scope = new IdempotencyScope("orders", "somebody");
        IdempotentOperation first = await executor.BeginAsync(scope, "key", Body);
        await first.CompleteAsync(new IdempotencyOutcome(200, Body));

        long allocated = Measure(() =>
        {
            if (executor.BeginAsync(scope, "key", Body).Result.Status != IdempotencyStatus.Completed)
            {
                throw new InvalidOperationException();
            }
        });

        allocated.Should().BeInRange(1, 368, "the README says so");
    }

    [Fact]
    public async Task A_record_costs_as_much_memory_as_is_published()
    {
        const int Records = 100_000;
        var store = new MemoryIdempotencyStore(new MemoryIdempotencyStoreOptions(), new FakeTimeProvider());
        IdempotencyOutcome none = IdempotencyOutcome.Tombstone(200);
        long before = GC.GetTotalMemory(forceFullCollection: true);

        for (int i = 0; i < Records; i++)
        {
            IdempotencyClaim claim = await store.BeginAsync(new IdempotencyClaimRequest
            {
                Key = new(RandomNumberGenerator.GetBytes(32)),
                Fingerprint = default,
                Lease = TimeSpan.FromHours(1),
                Retention = TimeSpan.FromDays(1),
            });
            await store.CompleteAsync(claim.Key, claim.Fence, none, TimeSpan.FromDays(1));
        }

        double each = (GC.GetTotalMemory(forceFullCollection: true) - before) / (double)Records;
        store.Count.Should().Be(Records);
        each.Should().BeInRange(230, 320, "the README says 280");
    }

    [Fact]
    public async Task A_hundred_thousand_operations_and_waits_leave_nothing_behind()
    {
        var time = new FakeTimeProvider();
        var store = new MemoryIdempotencyStore(new MemoryIdempotencyStoreOptions(), time);
        // Timers of fake time cost time by the square of their number.
        var real = new MemoryIdempotencyStore(new MemoryIdempotencyStoreOptions());
        var executor = new IdempotentExecutor(store, new IdempotencyOptions { Name = "orders", Retention = TimeSpan.FromMinutes(1) }, time);
        var scope = new IdempotencyScope("orders");
        using var caller = new CancellationTokenSource();
        List<WeakReference> made = [];
        async Task RunAllAsync()
        {
            await using IdempotentOperation owner = await executor.BeginAsync(scope, "owner", default, caller.Token);
            IdempotencyClaim claim = await real.BeginAsync(new IdempotencyClaimRequest { Key = new(RandomNumberGenerator.GetBytes(32)), Fingerprint = default, Lease = TimeSpan.FromHours(1), Retention = TimeSpan.FromHours(1) });
            var waits = new List<Task>();
            for (int i = 0; i < 100_000; i++)
            {
                await using IdempotentOperation operation = await executor.BeginAsync(scope, i.ToString(System.Globalization.CultureInfo.InvariantCulture), default, caller.Token);
                made.Add(new WeakReference(operation));
                waits.Add(real.WaitAsync(claim.Key, claim.Fence, TimeSpan.FromMilliseconds(1), caller.Token).AsTask());
                if (i % 3 == 0)
                {
                    await operation.CompleteAsync(new IdempotencyOutcome(200, Body));
                }
                else if (i % 3 == 1)
                {
                    await operation.AbandonAsync();
                }
            }

            time.Advance(TimeSpan.FromSeconds(2));
            made.AddRange(waits.Select(wait => new WeakReference(wait)));
            await Task.WhenAll(waits);
            await owner.CompleteAsync(IdempotencyOutcome.Tombstone(200));
            time.Advance(TimeSpan.FromMinutes(2));
            await (await executor.BeginAsync(scope, "last", default)).AbandonAsync();
        }

        await RunAllAsync();
        GC.Collect();

        (store.Count, store.Bytes).Should().Be((0, 0));
        made.Count(reference => reference.IsAlive).Should().BeLessThan(100, "some of the 200 000 may yet be on a stack");
    }
}
