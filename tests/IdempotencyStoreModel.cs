using CsCheck;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.Idempotency.Tests;

/// <summary>Random verbs on a few keys: every answer is that of <see cref="MemoryIdempotencyStore"/>, which has a model of its own. Time passes in both by making records older.</summary>
public abstract class IdempotencyStoreModel
{
    private static readonly TimeSpan Lease = TimeSpan.FromSeconds(1050);
    private static readonly TimeSpan Retention = TimeSpan.FromSeconds(2750);

    private static readonly Gen<Step> Steps =
        from kind in Gen.Frequency((4, Gen.Const(Kind.Begin)), (6, Gen.Enum<Kind>()))
        from key in Gen.Int[0, 2]
        from previous in Gen.Frequency((3, Gen.Const(-1)), (1, Gen.Int[0, 2]))
        from fingerprint in Gen.Frequency((5, Gen.Const(0)), (1, Gen.Const(1)))
        from owner in Gen.Int[0, 4]
        from amount in Gen.Int[0, 12]
        select new Step(kind, key, previous, fingerprint, owner, amount);

    private enum Kind
    {
        Begin,
        Renew,
        SavePhase,
        Complete,
        Abandon,
        Pass,
    }

    /// <summary>A store; several in one database are fine, as all keys are random.</summary>
    protected abstract ValueTask<IIdempotencyStore> CreateStoreAsync();

    /// <summary>Makes every instant that the store holds older by so much.</summary>
    protected abstract ValueTask ShiftAsync(IIdempotencyStore store, TimeSpan by);

    [Fact]
    public Task Every_answer_is_that_of_the_store_in_memory() => Steps.Array[1, 40].SampleAsync(
        async steps =>
        {
            IIdempotencyStore store = await CreateStoreAsync();
            var time = new FakeTimeProvider(TimeProvider.System.GetUtcNow());
            var memory = new MemoryIdempotencyStore(new MemoryIdempotencyStoreOptions(), time);
            IdempotencyDigest[] keys = [.. Enumerable.Range(0, 3).Select(_ => new IdempotencyDigest([.. Guid.NewGuid().ToByteArray(), .. Guid.NewGuid().ToByteArray()]))];
            var claims = new List<(IdempotencyClaim Real, IdempotencyClaim Model)>();
            foreach (Step step in steps)
            {
                if (step.Kind == Kind.Pass)
                {
                    // Leases and retentions are no multiples of 100 s, so that the time that a slow test takes decides nothing.
                    time.Advance(TimeSpan.FromSeconds(100 * step.Amount));
                    await ShiftAsync(store, TimeSpan.FromSeconds(100 * step.Amount));
                    continue;
                }

                if (step.Kind == Kind.Begin)
                {
                    var request = new IdempotencyClaimRequest
                    {
                        Key = keys[step.Key],
                        PreviousKey = step.Previous < 0 || step.Previous == step.Key ? null : keys[step.Previous],
                        Fingerprint = new IdempotencyDigest([.. Enumerable.Repeat((byte)step.Fingerprint, 32)]),
                        Lease = Lease,
                        Retention = Retention,
                    };
                    (IdempotencyClaim Real, IdempotencyClaim Model) claim = (await store.BeginAsync(request), await memory.BeginAsync(request));
                    Text(claim.Real).Should().Be(Text(claim.Model));
                    (claim.Real.LeaseLeft - claim.Model.LeaseLeft).Should().BeCloseTo(TimeSpan.Zero, TimeSpan.FromSeconds(40));
                    if (claim.Real.Status == IdempotencyClaimStatus.Started)
                    {
                        claims.Where(former => former.Real.Key == claim.Real.Key).All(former => former.Real.Fence < claim.Real.Fence).Should().BeTrue();
                        claims.Add(claim);
                    }
                    else
                    {
                        claims.Any(former => former.Real.Fence == claim.Real.Fence).Should().Be(claim.Real.Status == IdempotencyClaimStatus.InProgress);
                    }
                }
                else if (claims.Count > 0)
                {
                    (IdempotencyClaim real, IdempotencyClaim model) = claims[^Math.Min(claims.Count, step.Owner + 1)];
                    (await DoAsync(store, step, real)).Should().Be(await DoAsync(memory, step, model), $"that is what {step.Kind} does");
                }
            }
        },
        iter: 100,
        threads: 1);

    private static string Text(IdempotencyClaim claim) =>
        $"{claim.Status} {claim.Key} {string.Join(",", claim.Phases.OrderBy(phase => phase.Key).Select(phase => $"{phase.Key}={Convert.ToHexString(phase.Value.Span)}"))} "
        + $"{claim.Outcome?.Status} {claim.Outcome?.IsTombstone} {Convert.ToHexString(claim.Outcome is null ? [] : claim.Outcome.Content.Span)}";

    private static ValueTask<bool> DoAsync(IIdempotencyStore store, Step step, IdempotencyClaim owner)
    {
        byte[] bytes = [.. Enumerable.Range(0, step.Amount).Select(value => (byte)(value * 23))];
        return step.Kind switch
        {
            Kind.Renew => store.RenewAsync(owner.Key, owner.Fence, TimeSpan.FromSeconds((100 * step.Amount) + 50)),
            Kind.SavePhase => store.SavePhaseAsync(owner.Key, owner.Fence, $"p{step.Previous}", bytes),
            Kind.Complete => store.CompleteAsync(
                owner.Key, owner.Fence, step.Fingerprint == 1 ? IdempotencyOutcome.Tombstone(step.Amount) : new IdempotencyOutcome(step.Amount, bytes), TimeSpan.FromSeconds((100 * step.Amount) + 50)),
            _ => store.AbandonAsync(owner.Key, owner.Fence),
        };
    }

    private sealed record Step(Kind Kind, int Key, int Previous, int Fingerprint, int Owner, int Amount);
}
