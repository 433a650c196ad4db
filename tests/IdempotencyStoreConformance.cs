using System.Collections.Concurrent;
using System.Security.Cryptography;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.Idempotency.Tests;

/// <summary>What every store does. Each adds a subclass that makes one, and that makes what it holds older instead of waiting.</summary>
public abstract class IdempotencyStoreConformance
{
    private static readonly byte[] EveryByte = [.. Enumerable.Range(0, 256).Select(value => (byte)value)];

    protected static TimeSpan Lease { get; } = TimeSpan.FromSeconds(30);

    protected static TimeSpan Retention { get; } = TimeSpan.FromHours(24);

    /// <summary>How many keys the largest test uses.</summary>
    protected virtual int ManyKeys => 10_000;

    /// <summary>A store whose keys nobody else uses; several in one database are fine, as all keys are random.</summary>
    protected abstract ValueTask<IIdempotencyStore> CreateStoreAsync();

    /// <summary>Makes every instant that the store holds older by so much.</summary>
    protected abstract ValueTask ShiftAsync(IIdempotencyStore store, TimeSpan by);

    /// <summary>A store that cannot answer: its server is down, or it is full.</summary>
    protected abstract ValueTask<IIdempotencyStore> CreateBrokenStoreAsync();

    /// <summary>A store without a server can still lack room for another key.</summary>
    protected virtual bool OnlyBeginCanFail => false;

    /// <summary>Lets the time pass by which the store's waits end.</summary>
    protected virtual async ValueTask LetPassAsync(IIdempotencyStore store, TimeSpan time) => await Task.Delay(time, TimeProvider.System, TestContext.Current.CancellationToken);

    protected static IdempotencyDigest Digest() => new(RandomNumberGenerator.GetBytes(IdempotencyDigest.Size));

    protected static IdempotencyClaimRequest Request(IdempotencyDigest? key = null, IdempotencyDigest? fingerprint = null, IdempotencyDigest? previous = null) => new()
    {
        Key = key ?? Digest(),
        PreviousKey = previous,
        Fingerprint = fingerprint ?? Digest(),
        Lease = Lease,
        Retention = Retention,
    };

    [Fact]
    public async Task A_new_key_is_started_with_a_fence_near_the_time_and_without_phases()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyClaimRequest request = Request();

        IdempotencyClaim claim = await store.BeginAsync(request);

        claim.Status.Should().Be(IdempotencyClaimStatus.Started);
        claim.Key.Should().Be(request.Key);
        claim.Fence.Should().BePositive();
        claim.Phases.Should().BeEmpty();
        claim.Outcome.Should().BeNull();
    }

    [Fact]
    public async Task A_key_in_flight_tells_its_fence_and_what_is_left_of_its_lease()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim owner = await store.BeginAsync(request);
        await ShiftAsync(store, TimeSpan.FromSeconds(10));

        IdempotencyClaim claim = await store.BeginAsync(request);

        claim.Status.Should().Be(IdempotencyClaimStatus.InProgress);
        claim.Key.Should().Be(request.Key);
        claim.Fence.Should().Be(owner.Fence);
        claim.LeaseLeft.Should().BePositive().And.BeLessThanOrEqualTo(TimeSpan.FromSeconds(20)).And.BeGreaterThan(TimeSpan.FromSeconds(5));
    }

    [Theory]
    [InlineData(0, 256)]
    [InlineData(201, 0)]
    [InlineData(422, 1)]
    [InlineData(200, 65_536)]
    public async Task A_completed_key_gives_its_outcome_byte_for_byte(int status, int size)
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim owner = await store.BeginAsync(request);
        byte[] content = [.. Enumerable.Range(0, size).Select(index => EveryByte[index % 256])];
        byte[] buffer = [.. content];

        bool completed = await store.CompleteAsync(owner.Key, owner.Fence, new IdempotencyOutcome(status, buffer), Retention);

        Array.Fill(buffer, (byte)7);
        IdempotencyClaim claim = await store.BeginAsync(request);
        completed.Should().BeTrue();
        claim.Status.Should().Be(IdempotencyClaimStatus.Completed);
        claim.Outcome!.Status.Should().Be(status);
        claim.Outcome.IsTombstone.Should().BeFalse();
        claim.Outcome.Content.ToArray().Should().Equal(content, "a store copies what it keeps");
    }

    [Fact]
    public async Task A_tombstone_keeps_its_status_and_stays_a_tombstone()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim owner = await store.BeginAsync(request);

        await store.CompleteAsync(owner.Key, owner.Fence, IdempotencyOutcome.Tombstone(200), Retention);

        IdempotencyClaim claim = await store.BeginAsync(request);
        claim.Status.Should().Be(IdempotencyClaimStatus.Completed);
        claim.Outcome!.IsTombstone.Should().BeTrue();
        claim.Outcome.Status.Should().Be(200);
        claim.Outcome.Content.Length.Should().Be(0);
    }

    [Fact]
    public async Task An_abandoned_key_without_phases_is_as_though_it_had_never_been()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim first = await store.BeginAsync(request);

        bool abandoned = await store.AbandonAsync(first.Key, first.Fence);

        IdempotencyClaim second = await store.BeginAsync(Request(request.Key));
        abandoned.Should().BeTrue();
        second.Status.Should().Be(IdempotencyClaimStatus.Started);
        second.Fence.Should().BeGreaterThan(first.Fence);
        (await store.CompleteAsync(first.Key, first.Fence, new IdempotencyOutcome(1, EveryByte), Retention)).Should().BeFalse();
        (await store.AbandonAsync(first.Key, first.Fence)).Should().BeFalse();
    }

    [Fact]
    public async Task An_abandoned_key_with_phases_keeps_them_and_its_fingerprint()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim first = await store.BeginAsync(request);
        await store.SavePhaseAsync(first.Key, first.Fence, "charge", EveryByte);

        await store.AbandonAsync(first.Key, first.Fence);

        IdempotencyClaim other = await store.BeginAsync(Request(request.Key));
        bool zombie = await store.SavePhaseAsync(first.Key, first.Fence, "charge", Array.Empty<byte>());
        IdempotencyClaim second = await store.BeginAsync(request);
        other.Status.Should().Be(IdempotencyClaimStatus.Mismatch);
        zombie.Should().BeFalse();
        second.Status.Should().Be(IdempotencyClaimStatus.Started);
        second.Fence.Should().BeGreaterThan(first.Fence);
        second.Phases.Should().ContainKey("charge").WhoseValue.ToArray().Should().Equal(EveryByte);
    }

    [Fact]
    public async Task A_stale_lease_is_taken_over_with_its_phases_and_a_greater_fence()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim first = await store.BeginAsync(request);
        await store.SavePhaseAsync(first.Key, first.Fence, "charge", EveryByte);
        await store.SavePhaseAsync(first.Key, first.Fence, "mail", Array.Empty<byte>());
        await ShiftAsync(store, Lease);

        IdempotencyClaim second = await store.BeginAsync(request);

        second.Status.Should().Be(IdempotencyClaimStatus.Started);
        second.Key.Should().Be(request.Key);
        second.Fence.Should().BeGreaterThan(first.Fence);
        second.Phases.Should().HaveCount(2);
        second.Phases["charge"].ToArray().Should().Equal(EveryByte);
        second.Phases["mail"].Length.Should().Be(0);
        (await store.BeginAsync(request)).Status.Should().Be(IdempotencyClaimStatus.InProgress, "the new lease runs");
    }

    [Fact]
    public async Task A_lease_that_has_not_ended_is_not_taken_over()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyClaimRequest request = Request();
        await store.BeginAsync(request);
        await ShiftAsync(store, Lease - TimeSpan.FromSeconds(5));

        IdempotencyClaim claim = await store.BeginAsync(request);

        claim.Status.Should().Be(IdempotencyClaimStatus.InProgress);
    }

    [Fact]
    public async Task An_outcome_is_kept_for_its_retention_from_completion_and_then_forgotten()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim first = await store.BeginAsync(request);
        await ShiftAsync(store, Retention - TimeSpan.FromMinutes(1));
        await store.CompleteAsync(first.Key, first.Fence, new IdempotencyOutcome(200, EveryByte), TimeSpan.FromHours(1));
        await ShiftAsync(store, TimeSpan.FromMinutes(50));

        IdempotencyClaim kept = await store.BeginAsync(request);
        await ShiftAsync(store, TimeSpan.FromMinutes(11));
        IdempotencyClaim fresh = await store.BeginAsync(Request(request.Key));

        kept.Status.Should().Be(IdempotencyClaimStatus.Completed);
        fresh.Status.Should().Be(IdempotencyClaimStatus.Started);
        fresh.Fence.Should().BeGreaterThan(first.Fence);
    }

    [Fact]
    public async Task A_claim_that_nobody_ended_is_forgotten_after_its_retention_with_all_its_phases()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim first = await store.BeginAsync(request);
        await store.SavePhaseAsync(first.Key, first.Fence, "charge", EveryByte);
        await ShiftAsync(store, Retention + TimeSpan.FromSeconds(1));

        bool renewed = await store.RenewAsync(first.Key, first.Fence, Lease);
        bool completed = await store.CompleteAsync(first.Key, first.Fence, new IdempotencyOutcome(200, EveryByte), Retention);
        IdempotencyClaim fresh = await store.BeginAsync(Request(request.Key));

        (renewed, completed).Should().Be((false, false));
        fresh.Status.Should().Be(IdempotencyClaimStatus.Started);
        fresh.Fence.Should().BeGreaterThan(first.Fence);
        fresh.Phases.Should().BeEmpty();
    }

    [Fact]
    public async Task Another_fingerprint_is_a_mismatch_whatever_the_state()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyClaimRequest request = Request();
        var seen = new List<IdempotencyClaimStatus>();
        async Task LookAsync() => seen.Add((await store.BeginAsync(Request(request.Key))).Status);

        IdempotencyClaim first = await store.BeginAsync(request);
        await LookAsync();
        await ShiftAsync(store, Lease);
        await LookAsync();
        bool stillOwned = await store.CompleteAsync(first.Key, first.Fence, new IdempotencyOutcome(200, EveryByte), Retention);
        await LookAsync();

        seen.Should().Equal(IdempotencyClaimStatus.Mismatch, IdempotencyClaimStatus.Mismatch, IdempotencyClaimStatus.Mismatch);
        stillOwned.Should().BeTrue("a mismatch takes nothing from the owner");
        (await store.BeginAsync(request)).Status.Should().Be(IdempotencyClaimStatus.Completed);
    }

    [Fact]
    public async Task A_renewed_lease_holds_from_the_renewal_on()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim owner = await store.BeginAsync(request);
        await ShiftAsync(store, Lease - TimeSpan.FromSeconds(5));

        bool renewed = await store.RenewAsync(owner.Key, owner.Fence, Lease);
        await ShiftAsync(store, Lease - TimeSpan.FromSeconds(5));
        IdempotencyClaim held = await store.BeginAsync(request);
        await ShiftAsync(store, TimeSpan.FromSeconds(5));
        IdempotencyClaim taken = await store.BeginAsync(request);

        renewed.Should().BeTrue();
        held.Status.Should().Be(IdempotencyClaimStatus.InProgress);
        taken.Status.Should().Be(IdempotencyClaimStatus.Started);
    }

    [Fact]
    public async Task A_lease_that_ended_takes_nothing_from_its_owner_until_somebody_claims()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim owner = await store.BeginAsync(request);
        await ShiftAsync(store, 2 * Lease);

        bool saved = await store.SavePhaseAsync(owner.Key, owner.Fence, "charge", EveryByte);
        bool renewed = await store.RenewAsync(owner.Key, owner.Fence, Lease);
        IdempotencyClaim duplicate = await store.BeginAsync(request);
        await ShiftAsync(store, 2 * Lease);
        bool completed = await store.CompleteAsync(owner.Key, owner.Fence, new IdempotencyOutcome(200, EveryByte), Retention);

        (saved, renewed, completed).Should().Be((true, true, true));
        duplicate.Status.Should().Be(IdempotencyClaimStatus.InProgress);
        (await store.BeginAsync(request)).Status.Should().Be(IdempotencyClaimStatus.Completed);
    }

    [Fact]
    public async Task A_run_that_is_renewed_outlives_the_retention()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim owner = await store.BeginAsync(request);
        await ShiftAsync(store, Retention - TimeSpan.FromSeconds(5));

        await store.RenewAsync(owner.Key, owner.Fence, Lease);
        await ShiftAsync(store, TimeSpan.FromSeconds(15));
        IdempotencyClaim duplicate = await store.BeginAsync(request);

        duplicate.Status.Should().Be(IdempotencyClaimStatus.InProgress);
        (await store.CompleteAsync(owner.Key, owner.Fence, new IdempotencyOutcome(200, EveryByte), Retention)).Should().BeTrue();
    }

    [Fact]
    public async Task A_zombie_changes_nothing_while_its_successor_runs()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim zombie = await store.BeginAsync(request);
        await ShiftAsync(store, Lease);
        IdempotencyClaim owner = await store.BeginAsync(request);

        bool completed = await store.CompleteAsync(zombie.Key, zombie.Fence, new IdempotencyOutcome(500, EveryByte), Retention);
        bool saved = await store.SavePhaseAsync(zombie.Key, zombie.Fence, "charge", EveryByte);
        bool renewed = await store.RenewAsync(zombie.Key, zombie.Fence, 10 * Lease);
        bool abandoned = await store.AbandonAsync(zombie.Key, zombie.Fence);

        (completed, saved, renewed, abandoned).Should().Be((false, false, false, false));
        IdempotencyClaim seen = await store.BeginAsync(request);
        seen.Status.Should().Be(IdempotencyClaimStatus.InProgress);
        seen.Fence.Should().Be(owner.Fence);
        seen.LeaseLeft.Should().BeLessThanOrEqualTo(Lease, "nothing was renewed");
        await ShiftAsync(store, Lease);
        (await store.BeginAsync(request)).Phases.Should().BeEmpty("nothing was saved");
    }

    [Fact]
    public async Task A_zombie_changes_nothing_after_its_successor_completed()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim zombie = await store.BeginAsync(request);
        await ShiftAsync(store, Lease);
        IdempotencyClaim owner = await store.BeginAsync(request);
        await store.CompleteAsync(owner.Key, owner.Fence, new IdempotencyOutcome(201, EveryByte), Retention);

        bool completed = await store.CompleteAsync(zombie.Key, zombie.Fence, new IdempotencyOutcome(500, Array.Empty<byte>()), Retention);
        bool saved = await store.SavePhaseAsync(zombie.Key, zombie.Fence, "charge", EveryByte);
        bool renewed = await store.RenewAsync(zombie.Key, zombie.Fence, Lease);
        bool abandoned = await store.AbandonAsync(zombie.Key, zombie.Fence);

        (completed, saved, renewed, abandoned).Should().Be((false, false, false, false));
        IdempotencyClaim seen = await store.BeginAsync(request);
        seen.Outcome!.Status.Should().Be(201);
        seen.Outcome.Content.ToArray().Should().Equal(EveryByte);
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(1)]
    [InlineData(1_000_000)]
    public async Task A_fence_is_compared_for_equality(long off)
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim owner = await store.BeginAsync(request);

        bool[] written =
        [
            await store.CompleteAsync(owner.Key, owner.Fence + off, new IdempotencyOutcome(200, EveryByte), Retention),
            await store.SavePhaseAsync(owner.Key, owner.Fence + off, "charge", EveryByte),
            await store.RenewAsync(owner.Key, owner.Fence + off, Lease),
            await store.AbandonAsync(owner.Key, owner.Fence + off),
        ];

        written.Should().OnlyContain(done => !done);
        (await store.RenewAsync(owner.Key, owner.Fence, Lease)).Should().BeTrue();
    }

    [Fact]
    public async Task What_is_said_of_an_unknown_key_is_false()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyDigest key = Digest();

        bool[] written =
        [
            await store.CompleteAsync(key, 1, new IdempotencyOutcome(200, EveryByte), Retention),
            await store.SavePhaseAsync(key, 1, "charge", EveryByte),
            await store.RenewAsync(key, 1, Lease),
            await store.AbandonAsync(key, 1),
        ];

        written.Should().OnlyContain(done => !done);
        await store.WaitAsync(key, 1, TimeSpan.FromMinutes(10));
        (await store.BeginAsync(Request(key))).Status.Should().Be(IdempotencyClaimStatus.Started);
    }

    [Fact]
    public async Task Completing_again_under_the_same_fence_is_true_and_changes_nothing()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim owner = await store.BeginAsync(request);
        await store.CompleteAsync(owner.Key, owner.Fence, new IdempotencyOutcome(201, EveryByte), Retention);

        bool again = await store.CompleteAsync(owner.Key, owner.Fence, new IdempotencyOutcome(500, Array.Empty<byte>()), TimeSpan.FromHours(100));

        again.Should().BeTrue("the reply to the first may have been lost");
        (await store.BeginAsync(request)).Outcome!.Status.Should().Be(201);
        (await store.RenewAsync(owner.Key, owner.Fence, Lease)).Should().BeFalse();
        (await store.SavePhaseAsync(owner.Key, owner.Fence, "charge", EveryByte)).Should().BeFalse();
        (await store.AbandonAsync(owner.Key, owner.Fence)).Should().BeFalse();
        await ShiftAsync(store, Retention + TimeSpan.FromSeconds(1));
        (await store.BeginAsync(request)).Status.Should().Be(IdempotencyClaimStatus.Started, "nor is it kept longer");
    }

    [Fact]
    public async Task A_tombstone_that_is_written_again_is_true_and_stays_one()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim owner = await store.BeginAsync(request);
        await store.CompleteAsync(owner.Key, owner.Fence, IdempotencyOutcome.Tombstone(201), Retention);

        bool again = await store.CompleteAsync(owner.Key, owner.Fence, IdempotencyOutcome.Tombstone(500), Retention);

        again.Should().BeTrue();
        IdempotencyOutcome outcome = (await store.BeginAsync(request)).Outcome!;
        (outcome.IsTombstone, outcome.Status).Should().Be((true, 201));
    }

    [Fact]
    public async Task Phases_are_told_apart_by_code_unit_and_replaced_by_name()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim owner = await store.BeginAsync(request);
        string[] names = ["charge", "Charge", "charge ", "ı", "i", "żółw", "a'b\"c;--", "%", "_", new string('x', 100)];
        byte[] buffer = [1, 2, 3];
        foreach (string name in names)
        {
            await store.SavePhaseAsync(owner.Key, owner.Fence, name, new byte[] { 9 });
        }

        foreach (string name in names)
        {
            buffer[0] = (byte)Array.IndexOf(names, name);
            (await store.SavePhaseAsync(owner.Key, owner.Fence, name, buffer)).Should().BeTrue();
        }

        await ShiftAsync(store, Lease);
        IdempotencyClaim next = await store.BeginAsync(request);
        next.Phases.Keys.Should().BeEquivalentTo(names);
        next.Phases.Select(phase => names[phase.Value.Span[0]]).Should().Equal(next.Phases.Keys, "a store copies what it keeps");
        next.Phases.Should().OnlyContain(phase => phase.Value.Length == 3);
    }

    [Fact]
    public async Task A_record_under_the_previous_key_is_found_in_every_state()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyDigest old = Digest();
        IdempotencyClaimRequest before = Request(old);
        IdempotencyClaimRequest request = Request(fingerprint: before.Fingerprint, previous: old);
        IdempotencyClaim first = await store.BeginAsync(before);
        await store.SavePhaseAsync(first.Key, first.Fence, "charge", EveryByte);

        IdempotencyClaim duplicate = await store.BeginAsync(request);
        IdempotencyClaim other = await store.BeginAsync(Request(request.Key, previous: old));
        await ShiftAsync(store, Lease);
        IdempotencyClaim second = await store.BeginAsync(request);
        bool completed = await store.CompleteAsync(second.Key, second.Fence, new IdempotencyOutcome(201, EveryByte), Retention);
        IdempotencyClaim replay = await store.BeginAsync(request);

        (duplicate.Status, duplicate.Key, duplicate.Fence).Should().Be((IdempotencyClaimStatus.InProgress, old, first.Fence));
        other.Status.Should().Be(IdempotencyClaimStatus.Mismatch);
        (second.Status, second.Key).Should().Be((IdempotencyClaimStatus.Started, old), "it stays where it was found");
        second.Phases.Should().ContainKey("charge");
        completed.Should().BeTrue();
        replay.Outcome!.Status.Should().Be(201);
    }

    [Fact]
    public async Task Of_records_under_both_keys_the_newest_counts()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyClaimRequest[] both = [Request(), Request()];
        foreach (IdempotencyClaimRequest request in both)
        {
            IdempotencyClaim owner = await store.BeginAsync(request);
            await store.CompleteAsync(owner.Key, owner.Fence, new IdempotencyOutcome(request == both[0] ? 200 : 201, EveryByte), Retention);
        }

        IdempotencyClaim first = await store.BeginAsync(both[0] with { PreviousKey = both[1].Key });
        IdempotencyClaim second = await store.BeginAsync(both[1] with { PreviousKey = both[0].Key });

        (first.Outcome!.Status, second.Outcome!.Status).Should().Be((200, 201));
        (first.Key, second.Key).Should().Be((both[0].Key, both[1].Key));
    }

    [Fact]
    public async Task A_new_record_is_written_under_the_newest_key_and_found_by_those_who_put_it_second()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyClaimRequest request = Request(previous: Digest());

        IdempotencyClaim claim = await store.BeginAsync(request);

        claim.Key.Should().Be(request.Key);
        IdempotencyClaim other = await store.BeginAsync(Request(request.PreviousKey, request.Fingerprint, request.Key));
        (other.Status, other.Key).Should().Be((IdempotencyClaimStatus.InProgress, request.Key));
    }

    [Fact]
    public async Task Of_64_that_begin_at_once_one_wins()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        for (int round = 0; round < 10; round++)
        {
            IdempotencyClaimRequest request = Request();

            IdempotencyClaim[] claims = await AtOnceAsync(64, _ => store.BeginAsync(request));

            IdempotencyClaim winner = claims.Should().ContainSingle(claim => claim.Status == IdempotencyClaimStatus.Started).Subject;
            claims.Should().OnlyContain(claim => claim.Fence == winner.Fence && (claim.Status == IdempotencyClaimStatus.Started || claim.Status == IdempotencyClaimStatus.InProgress));
        }
    }

    [Fact]
    public async Task Of_64_that_take_over_at_once_one_wins()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim first = await store.BeginAsync(request);
        await ShiftAsync(store, Lease);

        IdempotencyClaim[] claims = await AtOnceAsync(64, _ => store.BeginAsync(request));

        claims.Should().ContainSingle(claim => claim.Status == IdempotencyClaimStatus.Started).Which.Fence.Should().BeGreaterThan(first.Fence);
        claims.Count(claim => claim.Status == IdempotencyClaimStatus.InProgress).Should().Be(63);
    }

    [Fact]
    public async Task Of_64_that_begin_at_once_while_a_secret_is_rotated_one_wins()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        for (int round = 0; round < 10; round++)
        {
            IdempotencyClaimRequest one = Request(previous: Digest());
            IdempotencyClaimRequest other = Request(one.PreviousKey, one.Fingerprint, one.Key);

            IdempotencyClaim[] claims = await AtOnceAsync(64, index => store.BeginAsync(index % 2 == 0 ? one : other));

            claims.Should().ContainSingle(claim => claim.Status == IdempotencyClaimStatus.Started);
            claims.Count(claim => claim.Status == IdempotencyClaimStatus.InProgress).Should().Be(63);
        }
    }

    [Fact]
    public async Task An_owner_and_those_who_take_over_never_both_write()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        for (int round = 0; round < 20; round++)
        {
            IdempotencyClaimRequest request = Request();
            IdempotencyClaim owner = await store.BeginAsync(request);
            await ShiftAsync(store, Lease);
            var taken = new ConcurrentBag<IdempotencyClaim>();

            bool[] completed = await AtOnceAsync(9, async index =>
            {
                if (index == 4)
                {
                    return await store.CompleteAsync(owner.Key, owner.Fence, new IdempotencyOutcome(1, EveryByte), Retention);
                }

                taken.Add(await store.BeginAsync(request));
                return false;
            });

            int started = taken.Count(claim => claim.Status == IdempotencyClaimStatus.Started);
            (completed[4] ? 1 : 0).Should().Be(1 - started, "either the owner was in time, or one of the others started");
        }
    }

    [Fact]
    public async Task Who_waits_is_woken_when_the_run_completes()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim owner = await store.BeginAsync(request);
        Task[] waits = [.. Enumerable.Range(0, 8).Select(_ => store.WaitAsync(owner.Key, owner.Fence, TimeSpan.FromMinutes(10)).AsTask())];
        bool before = waits.Any(wait => wait.IsCompleted);

        await store.CompleteAsync(owner.Key, owner.Fence, new IdempotencyOutcome(200, EveryByte), Retention);

        before.Should().BeFalse();
        await WithinAsync(Task.WhenAll(waits));
    }

    [Fact]
    public async Task Who_waits_is_woken_when_the_run_is_abandoned()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim owner = await store.BeginAsync(request);
        Task wait = store.WaitAsync(owner.Key, owner.Fence, TimeSpan.FromMinutes(10)).AsTask();

        await store.AbandonAsync(owner.Key, owner.Fence);

        await WithinAsync(wait);
    }

    [Fact]
    public async Task Who_waits_waits_no_longer_than_it_said()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyClaim owner = await store.BeginAsync(Request());
        Task wait = store.WaitAsync(owner.Key, owner.Fence, TimeSpan.FromMilliseconds(300)).AsTask();

        await LetPassAsync(store, TimeSpan.FromMilliseconds(300));

        await WithinAsync(wait);
    }

    [Fact]
    public async Task Who_waits_for_a_run_that_has_ended_does_not_wait()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim first = await store.BeginAsync(request);
        await ShiftAsync(store, Lease);
        IdempotencyClaim second = await store.BeginAsync(request);

        await WithinAsync(store.WaitAsync(first.Key, first.Fence, TimeSpan.FromMinutes(10)).AsTask());
        await store.CompleteAsync(second.Key, second.Fence, new IdempotencyOutcome(200, EveryByte), Retention);
        await WithinAsync(store.WaitAsync(second.Key, second.Fence, TimeSpan.FromMinutes(10)).AsTask());

        (await store.BeginAsync(request)).Status.Should().Be(IdempotencyClaimStatus.Completed);
    }

    [Fact]
    public async Task A_wait_ends_with_the_token_of_who_waits()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyClaim owner = await store.BeginAsync(Request());
        using var cancellation = new CancellationTokenSource();
        Task wait = store.WaitAsync(owner.Key, owner.Fence, TimeSpan.FromMinutes(10), cancellation.Token).AsTask();

        await cancellation.CancelAsync();

        Func<Task> ended = () => WithinAsync(wait);
        await ended.Should().ThrowAsync<OperationCanceledException>();
        (await store.RenewAsync(owner.Key, owner.Fence, Lease)).Should().BeTrue();
    }

    [Fact]
    public async Task A_verb_that_is_cancelled_before_it_begins_does_nothing()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyClaimRequest request = Request();
        IdempotencyClaimRequest fresh = Request();
        IdempotencyClaim owner = await store.BeginAsync(request);
        var token = new CancellationToken(canceled: true);
        Func<Task>[] verbs =
        [
            async () => await store.BeginAsync(fresh, token),
            async () => await store.RenewAsync(owner.Key, owner.Fence, Lease, token),
            async () => await store.SavePhaseAsync(owner.Key, owner.Fence, "charge", EveryByte, null, token),
            async () => await store.CompleteAsync(owner.Key, owner.Fence, new IdempotencyOutcome(200, EveryByte), Retention, null, token),
            async () => await store.AbandonAsync(owner.Key, owner.Fence, token),
            async () => await store.WaitAsync(owner.Key, owner.Fence, Lease, token),
        ];

        foreach (Func<Task> verb in verbs)
        {
            await verb.Should().ThrowAsync<OperationCanceledException>();
        }

        (await store.BeginAsync(request)).Status.Should().Be(IdempotencyClaimStatus.InProgress);
        (await store.BeginAsync(fresh)).Status.Should().Be(IdempotencyClaimStatus.Started);
        await ShiftAsync(store, Lease);
        (await store.BeginAsync(request)).Phases.Should().BeEmpty();
    }

    [Theory]
    [InlineData(-365)]
    [InlineData(365)]
    public async Task The_clock_of_who_asks_decides_nothing(int daysOff)
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyOptions options = new() { Name = "skew", Lease = Lease, Retention = Retention };
        var right = new IdempotentExecutor(store, options, new FakeTimeProvider(TimeProvider.System.GetUtcNow()));
        var wrong = new IdempotentExecutor(store, options, new FakeTimeProvider(TimeProvider.System.GetUtcNow().AddDays(daysOff)));
        var scope = new IdempotencyScope("skew", Guid.NewGuid().ToString());

        await using IdempotentOperation first = await wrong.BeginAsync(scope, "key", EveryByte);
        await using IdempotentOperation duplicate = await right.BeginAsync(scope, "key", EveryByte);
        await ShiftAsync(store, Lease);
        await using IdempotentOperation second = await right.BeginAsync(scope, "key", EveryByte);
        Func<Task> zombie = async () => await first.CompleteAsync(new IdempotencyOutcome(500, EveryByte));
        await zombie.Should().ThrowAsync<IdempotencyException>();
        await second.CompleteAsync(new IdempotencyOutcome(200, EveryByte));
        await using IdempotentOperation replay = await wrong.BeginAsync(scope, "key", EveryByte);

        (first.Status, duplicate.Status, second.Status, replay.Status).Should()
            .Be((IdempotencyStatus.Started, IdempotencyStatus.InProgress, IdempotencyStatus.Started, IdempotencyStatus.Completed));
        duplicate.RetryAfter.Should().BePositive().And.BeLessThanOrEqualTo(Lease);
        replay.Outcome!.Status.Should().Be(200);
    }

    [Fact]
    public async Task A_store_that_does_not_answer_says_so_in_every_verb()
    {
        IIdempotencyStore store = await CreateBrokenStoreAsync();
        IdempotencyDigest key = Digest();
        Func<Task>[] verbs =
        [
            async () => await store.BeginAsync(Request(key)),
            async () => await store.RenewAsync(key, 1, Lease),
            async () => await store.SavePhaseAsync(key, 1, "charge", EveryByte),
            async () => await store.CompleteAsync(key, 1, new IdempotencyOutcome(200, EveryByte), Retention),
            async () => await store.AbandonAsync(key, 1),
        ];

        foreach (Func<Task> verb in OnlyBeginCanFail ? verbs[..1] : verbs)
        {
            await verb.Should().ThrowAsync<IdempotencyStoreException>();
        }
    }

    [Fact]
    public async Task Ten_thousand_keys_do_not_meet()
    {
        IIdempotencyStore store = await CreateStoreAsync();
        IdempotencyClaimRequest[] requests = [.. Enumerable.Range(0, ManyKeys).Select(_ => Request())];
        var claims = new IdempotencyClaim[ManyKeys];
        await EachAsync(async index => claims[index] = await store.BeginAsync(requests[index]));
        await EachAsync(async index => (await store.CompleteAsync(claims[index].Key, claims[index].Fence, new IdempotencyOutcome(index, BitConverter.GetBytes(index)), Retention)).Should().BeTrue());

        var replays = new IdempotencyClaim[ManyKeys];
        await EachAsync(async index => replays[index] = await store.BeginAsync(requests[index]));

        claims.Should().OnlyContain(claim => claim.Status == IdempotencyClaimStatus.Started);
        replays.Select((replay, index) => replay.Outcome?.Status == index && BitConverter.ToInt32(replay.Outcome.Content.Span) == index).Should().OnlyContain(same => same);

        Task EachAsync(Func<int, Task> body) => Parallel.ForAsync(0, ManyKeys, new ParallelOptions { MaxDegreeOfParallelism = 16 }, async (index, _) => await body(index));
    }

    private static async Task<T[]> AtOnceAsync<T>(int count, Func<int, ValueTask<T>> body)
    {
        var start = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Task<T>[] all = [.. Enumerable.Range(0, count).Select(index => Task.Run(async () =>
        {
            await start.Task;
            return await body(index);
        }))];
        start.SetResult();
        return await Task.WhenAll(all);
    }

    /// <summary>Long enough for any machine; only a test that fails takes it.</summary>
    private static Task WithinAsync(Task task) => task.WaitAsync(TimeSpan.FromSeconds(30), TimeProvider.System);
}
