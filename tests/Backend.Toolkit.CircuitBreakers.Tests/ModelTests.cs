using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using CsCheck;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.CircuitBreakers.Tests;

/// <summary>Random starts, finishes, cancellations, time steps and reloads against a reference that keeps every call in a list.</summary>
public sealed class ModelTests
{
    private const int Slots = 12;

    private static readonly Gen<(int Kind, int Slot, int Amount)> Operation = Gen.Select(Gen.Int[0, 19], Gen.Int[0, Slots - 1], Gen.Int[1, 400]);

    private static readonly Gen<CircuitBreakerOptions> Options = Gen.Select(
        Gen.Int[1, 6], Gen.Double[0.1, 1], Gen.Int[0, 4], Gen.Bool, Gen.Select(Gen.Int[1, 3], Gen.Int[1, 3], Gen.Int[1, 3]))
        .Select((throughput, ratio, inARow, slow, probes) => new CircuitBreakerOptions
        {
            Window = TimeSpan.FromSeconds(10),
            MinimumThroughput = throughput,
            FailureRatio = ratio,
            ConsecutiveFailures = inARow == 0 ? null : inARow,
            SlowCallDuration = slow ? TimeSpan.FromSeconds(1.6) : null,
            SlowCallRatio = ratio,
            BreakDuration = TimeSpan.FromSeconds(probes.Item3),
            MaxBreakDuration = TimeSpan.FromSeconds(8),
            BreakJitter = 0,
            ProbeCount = probes.Item1,
            ProbeSuccesses = probes.Item2,
            ProbeLease = TimeSpan.FromSeconds(3),
        });

    private static readonly JsonSerializerOptions IgnoringDelegates = new()
    {
        TypeInfoResolver = new DefaultJsonTypeInfoResolver
        {
            Modifiers =
            {
                type =>
                {
                    foreach (JsonPropertyInfo property in type.Properties.Where(p => p.PropertyType.IsAssignableTo(typeof(Delegate))).ToArray())
                    {
                        type.Properties.Remove(property);
                    }
                },
            },
        },
    };

    [Fact]
    public void The_circuit_does_what_the_reference_does() =>
        Gen.Select(Options, Options, Operation.Array[1, 120]).Sample(
            (first, second, operations) =>
            {
                // What changes in a reload here leaves the widths of buckets and cohorts alone.
                second.SlowCallDuration = first.SlowCallDuration;
                Run(first, second, operations);
            },
            iter: 20_000,
            print: sample => JsonSerializer.Serialize(new { First = sample.Item1, Second = sample.Item2 }, IgnoringDelegates)
                + string.Join(' ', sample.Item3));

    private static void Run(CircuitBreakerOptions first, CircuitBreakerOptions second, (int Kind, int Slot, int Amount)[] operations)
    {
        var time = new FakeTimeProvider();
        DateTimeOffset start = time.GetUtcNow();
        var breaker = new CircuitBreaker(first, time);
        var model = new Model(first);
        var permits = new CircuitPermit?[Slots];
        var calls = new Model.Call?[Slots];

        foreach ((int kind, int slot, int amount) in operations)
        {
            model.Now = time.GetUtcNow() - start;
            switch (kind)
            {
                case < 9 when permits[slot] is null:
                    calls[slot] = model.TryEnter();
                    breaker.TryEnter(out CircuitPermit permit).Should().Be(calls[slot] is not null);
                    permits[slot] = calls[slot] is null ? null : permit;
                    break;
                case < 16 when permits[slot] is { } taken:
                    CallOutcome outcome = (CallOutcome)(amount % 3);
                    model.Report(calls[slot]!, outcome);
                    breaker.Report(taken, outcome);
                    (permits[slot], calls[slot]) = (null, null);
                    break;
                case < 18:
                    time.Advance(TimeSpan.FromMilliseconds(amount * (kind == 17 ? 30 : 1)));
                    break;
                case 18:
                    model.Options = model.Options == first ? second : first;
                    breaker.Update(model.Options);
                    break;
                case 19 when amount < 20:
                    model.Reset();
                    breaker.Reset();
                    break;
            }

            model.Now = time.GetUtcNow() - start;
            CircuitState expected = model.State();
            breaker.State.Should().Be(expected);
            CallCounts counts = breaker.Counts;
            if (expected == CircuitState.Closed)
            {
                counts.Should().Be(model.Counts());
            }

            (counts.Successes >= 0 && counts.Failures >= 0 && counts.Slow >= 0).Should().BeTrue();
            model.Calls.Count(call => call.IsProbe).Should().BeLessThanOrEqualTo(Math.Max(first.ProbeCount, second.ProbeCount));
        }
    }

    /// <summary>Every call is in a list; everything is counted anew each time it is asked.</summary>
    private sealed class Model(CircuitBreakerOptions options)
    {
        private TimeSpan _periodStart;
        private List<(long Bucket, CallOutcome Outcome, bool Slow)> _results = [];
        private int _inARow;
        private bool _closed = true;
        private TimeSpan _openUntil;
        private TimeSpan? _roundEnd;
        private int _roundSuccesses;
        private int _roundSlots;
        private int _openings;
        private int _period;

        public CircuitBreakerOptions Options { get; set; } = options;

        public TimeSpan Now { get; set; }

        public List<Call> Calls { get; } = [];

        public Call? TryEnter()
        {
            Look();
            if (_closed)
            {
                return Add(new Call(Now, _period, false));
            }

            if (Now < _openUntil)
            {
                return null;
            }

            if (_roundEnd is null)
            {
                (_roundEnd, _roundSuccesses) = (Now + Options.ProbeLease!.Value, 0);
            }

            return Calls.Count(call => call.IsProbe) < _roundSlots ? Add(new Call(Now, _period, true)) : null;
        }

        public void Report(Call call, CallOutcome outcome)
        {
            bool slow = Options.SlowCallDuration is { } limit && Now - call.Started > limit;
            Look();
            if (!call.IsProbe)
            {
                Calls.Remove(call);
            }

            if (call.Period != _period || (call.IsProbe && !Calls.Remove(call)))
            {
                return;
            }

            if (!call.IsProbe)
            {
                if (outcome != CallOutcome.Neutral)
                {
                    _results.Add((Bucket(), outcome, slow));
                    _inARow = outcome == CallOutcome.Failure ? _inARow + 1 : 0;
                    Judge(Failed() || IsSlow());
                }
            }
            else if (outcome == CallOutcome.Failure || (outcome == CallOutcome.Success && slow))
            {
                Open(Now, grown: true);
            }
            else if (outcome == CallOutcome.Success && ++_roundSuccesses >= Options.ProbeSuccesses)
            {
                Reset();
            }
        }

        public CircuitState State()
        {
            Look();
            return _closed ? CircuitState.Closed : Now < _openUntil ? CircuitState.Open : CircuitState.HalfOpen;
        }

        public CallCounts Counts()
        {
            var live = _results.Where(result => result.Bucket > Bucket() - 10).ToList();
            return new CallCounts(live.Count(r => r.Outcome == CallOutcome.Success), live.Count(r => r.Outcome == CallOutcome.Failure), live.Count(r => r.Slow));
        }

        public void Reset()
        {
            (_closed, _roundEnd, _openings, _periodStart, _inARow, _results) = (true, null, 0, Now, 0, []);
            _period++;
            Calls.Clear();
        }

        private Call Add(Call call)
        {
            Calls.Add(call);
            return call;
        }

        private long Bucket() => (Now - _periodStart).Ticks / (Options.Window.Ticks / 10);

        private void Look()
        {
            if (_closed)
            {
                Judge(IsSlow());
            }
            else if (Now >= _roundEnd)
            {
                Open(_roundEnd.Value, grown: Calls.Exists(call => call.IsProbe));
            }
        }

        private bool Failed()
        {
            CallCounts counts = Counts();
            return Options.ConsecutiveFailures is { } limit ? _inARow >= limit
                : counts.Failures > 0 && Exceeds(counts.Failures, counts.Successes + counts.Failures, Options.FailureRatio);
        }

        private bool IsSlow()
        {
            if (Options.SlowCallDuration is not { } limit)
            {
                return false;
            }

            TimeSpan width = limit / 8;
            CallCounts counts = Counts();
            long overdue = Calls.Count(call => (Now - _periodStart).Ticks / width.Ticks - (call.Started - _periodStart).Ticks / width.Ticks >= 9);
            return counts.Slow + overdue > 0 && Exceeds(counts.Slow + overdue, counts.Successes + counts.Failures + overdue, Options.SlowCallRatio);
        }

        private bool Exceeds(long part, long all, double ratio) => all >= Options.MinimumThroughput && (double)part / all >= ratio;

        private void Judge(bool shouldOpen)
        {
            if (shouldOpen)
            {
                _openings = 0;
                Open(Now, grown: true);
            }
        }

        private void Open(TimeSpan at, bool grown)
        {
            _openings += grown ? 1 : 0;
            double seconds = Math.Min(Options.BreakDuration.TotalSeconds * Math.Pow(2, _openings - 1), 8);
            (_closed, _roundEnd, _openUntil, _roundSlots) = (false, null, at + TimeSpan.FromSeconds(seconds), Options.ProbeCount);
            _period++;
            Calls.Clear();
        }

        public sealed class Call(TimeSpan started, int period, bool isProbe)
        {
            public TimeSpan Started => started;

            public int Period => period;

            public bool IsProbe => isProbe;
        }
    }
}
