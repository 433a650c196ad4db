using CsCheck;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.Idempotency.Tests;

/// <summary>Random verbs on a few keys against a reference that is a list of rules; and the same verbs at once, whose answers must be those of some order.</summary>
public sealed class MemoryStoreModelTests
{
    private static readonly TimeSpan Lease = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan Retention = TimeSpan.FromSeconds(25);
    private static readonly DateTimeOffset Start = new(2026, 7, 1, 0, 0, 0, TimeSpan.Zero);

    private static readonly Gen<Step> Steps =
        from kind in Gen.Frequency((4, Gen.Const(Kind.Begin)), (6, Gen.Enum<Kind>()))
        from key in Gen.Int[0, 3]
        from previous in Gen.Frequency((3, Gen.Const(-1)), (1, Gen.Int[0, 3]))
        from fingerprint in Gen.Frequency((5, Gen.Const(0)), (1, Gen.Const(1)))
        from owner in Gen.Int[0, 5]
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

    [Fact]
    public void The_store_does_what_its_model_does() => Steps.Array[1, 60].Sample(steps =>
    {
        var time = new FakeTimeProvider(Start);
        var store = new MemoryIdempotencyStore(new MemoryIdempotencyStoreOptions { MaxRecords = 3, MaxBytes = 40 }, time);
        var model = new Model();
        var claims = new List<(int Key, long Fence)>();
        foreach (Step step in steps)
        {
            if (step.Kind == Kind.Pass)
            {
                time.Advance(TimeSpan.FromSeconds(step.Amount));
                model.Now += step.Amount;
                continue;
            }

            (int key, long fence) = claims.Count == 0 ? (step.Key, 1L) : claims[^Math.Min(claims.Count, step.Owner + 1)];
            string expected = model.Do(step, key, fence, claims);

            Do(store, step, key, fence).Should().Be(expected);
            store.Count.Should().BeGreaterThanOrEqualTo(model.Live);
        }
    });

    /// <summary>Nodes that know two secrets in either order, and some that give back what they claimed: there is one owner at a time, under whichever key.</summary>
    [Fact]
    public void Two_keys_of_one_request_never_have_two_owners() => Gen.Int[0, 3].Array[1, 8].Array[4].Sample(
        workers =>
        {
            var store = new MemoryIdempotencyStore(new MemoryIdempotencyStoreOptions(), new FakeTimeProvider(Start));
            int owners = 0;
            int ended = 0;
            Task[] tasks = [.. workers.Select((kinds, worker) => Task.Run(async () =>
            {
                foreach (int kind in kinds)
                {
                    IdempotencyClaim claim = await store.BeginAsync(Request(worker % 2, 1 - worker % 2, 0));
                    if (claim.Status == IdempotencyClaimStatus.Started)
                    {
                        Interlocked.Increment(ref owners).Should().Be(1);
                        (await store.RenewAsync(claim.Key, claim.Fence, Lease)).Should().BeTrue();
                        Interlocked.Decrement(ref owners);
                        bool done = kind == 0
                            ? await store.CompleteAsync(claim.Key, claim.Fence, new IdempotencyOutcome(kind, new byte[1]), Retention)
                            : (kind != 1 || await store.SavePhaseAsync(claim.Key, claim.Fence, "a", new byte[1])) && await store.AbandonAsync(claim.Key, claim.Fence);
                        done.Should().BeTrue();
                        Interlocked.Increment(ref ended);
                    }
                }
            }))];
            Task.WaitAll(tasks);
            ended.Should().BePositive();
            store.Count.Should().BeLessThanOrEqualTo(1);
        },
        iter: 300,
        threads: 1);

    /// <summary>On one key whose leases are over at once and whose fences are known, as the clock stands still: the answers and what is left are those of some order.</summary>
    [Fact]
    public void Verbs_on_one_key_are_linearizable() => Gen.Const(0).Select(_ => new Trial()).SampleParallel(
        Gen.Operation<Trial>(trial => trial.Begin()),
        Gen.Int[0, 2].Operation<Trial>((trial, fence) => trial.Complete(fence)),
        Gen.Int[0, 2].Operation<Trial>((trial, fence) => trial.SavePhase(fence)),
        Gen.Int[0, 2].Operation<Trial>((trial, fence) => trial.Abandon(fence)),
        (parallel, sequential) => parallel.ToString() == sequential.ToString(),
        iter: 300);

    private static IdempotencyDigest Digest(int key)
    {
        byte[] bytes = new byte[32];
        bytes[31] = (byte)(key + 1);
        return new IdempotencyDigest(bytes);
    }

    private static IdempotencyClaimRequest Request(int key, int previous, int fingerprint) => new()
    {
        Key = Digest(key),
        PreviousKey = previous < 0 || previous == key ? null : Digest(previous),
        Fingerprint = Digest(100 + fingerprint),
        Lease = Lease,
        Retention = Retention,
    };

    private static string Do(MemoryIdempotencyStore store, Step step, int key, long fence)
    {
        switch (step.Kind)
        {
            case Kind.Begin:
                try
                {
                    IdempotencyClaim claim = store.BeginAsync(Request(step.Key, step.Previous, step.Fingerprint)).AsTask().GetAwaiter().GetResult();
                    return $"{claim.Status} {claim.Key.ToArray()[31] - 1} {claim.Fence} {string.Join(",", claim.Phases.OrderBy(phase => phase.Key).Select(phase => $"{phase.Key}={phase.Value.Length}"))} "
                        + $"{claim.Outcome?.Status} {claim.Outcome?.Content.Length} {claim.LeaseLeft.TotalSeconds}";
                }
                catch (IdempotencyStoreException)
                {
                    return "full";
                }

            case Kind.Renew:
                return store.RenewAsync(Digest(key), fence, TimeSpan.FromSeconds(step.Amount + 1)).Result.ToString();
            case Kind.SavePhase:
                return store.SavePhaseAsync(Digest(key), fence, $"p{step.Fingerprint}", new byte[step.Amount]).Result.ToString();
            case Kind.Complete:
                return store.CompleteAsync(Digest(key), fence, new IdempotencyOutcome(step.Owner, new byte[step.Amount]), TimeSpan.FromSeconds(step.Amount + 1)).Result.ToString();
            default:
                return store.AbandonAsync(Digest(key), fence).Result.ToString();
        }
    }

    private sealed class Trial
    {
        private static readonly long FirstFence = Start.ToUnixTimeSeconds() * 1_000_000;

        private readonly MemoryIdempotencyStore _store = new(new MemoryIdempotencyStoreOptions(), new FakeTimeProvider(Start));
        private readonly int[] _answers = new int[12];

        public void Begin() => Interlocked.Increment(ref _answers[(int)_store.BeginAsync(Request(0, -1, 0) with { Lease = TimeSpan.Zero }).Result.Status]);

        public void Complete(int fence) => Count(4, _store.CompleteAsync(Digest(0), FirstFence + fence, new IdempotencyOutcome(fence, new byte[fence]), Retention).Result);

        public void SavePhase(int fence) => Count(6, _store.SavePhaseAsync(Digest(0), FirstFence + fence, "a", new byte[fence]).Result);

        public void Abandon(int fence) => Count(8, _store.AbandonAsync(Digest(0), FirstFence + fence).Result);

        public override string ToString() => $"{string.Join(",", _answers)} {_store.Count} {_store.Bytes}";

        private void Count(int index, bool answer) => Interlocked.Increment(ref _answers[index + (answer ? 1 : 0)]);
    }

    private sealed record Step(Kind Kind, int Key, int Previous, int Fingerprint, int Owner, int Amount);

    private sealed class Record
    {
        public int Fingerprint;
        public long Fence;
        public int LeaseEnd;
        public int Expiry;
        public bool Abandoned;
        public (int Status, int Size)? Outcome;
        public SortedDictionary<string, int> Phases = [];

        public int Bytes => Phases.Values.Sum() + (Outcome?.Size ?? 0);
    }

    /// <summary>The reference, in seconds.</summary>
    private sealed class Model
    {
        private readonly Dictionary<int, Record> _records = [];
        private long _fence;

        public int Now { get; set; }

        public int Live => _records.Values.Count(record => record.Expiry > Now);

        public string Do(Step step, int key, long fence, List<(int Key, long Fence)> claims)
        {
            foreach (int old in _records.Where(pair => pair.Value.Expiry <= Now).Select(pair => pair.Key).ToArray())
            {
                _records.Remove(old);
            }

            if (step.Kind == Kind.Begin)
            {
                return Begin(step, claims);
            }

            if (!_records.TryGetValue(key, out Record? record) || record.Fence != fence || record.Abandoned || record.Outcome is not null)
            {
                return (step.Kind == Kind.Complete && record is { Outcome: not null } && record.Fence == fence).ToString();
            }

            switch (step.Kind)
            {
                case Kind.Renew:
                    record.LeaseEnd = Now + step.Amount + 1;
                    record.Expiry = Math.Max(record.Expiry, record.LeaseEnd);
                    break;
                case Kind.SavePhase:
                    record.Phases[$"p{step.Fingerprint}"] = step.Amount;
                    break;
                case Kind.Complete:
                    (record.Outcome, record.Expiry) = ((step.Owner, step.Amount), Now + step.Amount + 1);
                    record.Phases.Clear();
                    break;
                default:
                    record.Abandoned = true;
                    if (record.Phases.Count == 0)
                    {
                        _records.Remove(key);
                    }

                    break;
            }

            return true.ToString();
        }

        private string Begin(Step step, List<(int Key, long Fence)> claims)
        {
            int at = _records.ContainsKey(step.Key) || step.Previous < 0 || !_records.ContainsKey(step.Previous) ? step.Key : step.Previous;
            if (!_records.TryGetValue(at, out Record? record))
            {
                if (_records.Count >= 3 || _records.Values.Sum(other => other.Bytes) >= 40)
                {
                    return "full";
                }

                record = _records[at] = new Record { Fingerprint = step.Fingerprint };
            }
            else if (record.Fingerprint != step.Fingerprint)
            {
                return $"Mismatch {at} 0    0";
            }
            else if (record.Outcome is var (status, size))
            {
                return $"Completed {at} 0  {status} {size} 0";
            }
            else if (!record.Abandoned && record.LeaseEnd > Now)
            {
                return $"InProgress {at} {record.Fence}    {record.LeaseEnd - Now}";
            }

            _fence = Math.Max(_fence + 1, (Start.ToUnixTimeSeconds() + Now) * 1_000_000);
            (record.Fence, record.Abandoned, record.LeaseEnd, record.Expiry) = (_fence, false, Now + 10, Now + 25);
            claims.Add((at, _fence));
            return $"Started {at} {_fence} {string.Join(",", record.Phases.Select(phase => $"{phase.Key}={phase.Value}"))}   0";
        }
    }
}
