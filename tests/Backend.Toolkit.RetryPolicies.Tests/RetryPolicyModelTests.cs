using CsCheck;

namespace Backend.Toolkit.RetryPolicies.Tests;

/// <summary>Random calls, one after the other through one policy, against a reference that is a plain loop.</summary>
public sealed class RetryPolicyModelTests
{
    private static readonly Gen<Setup> Setups =
        from maxAttempts in Gen.Int[1, 6]
        from backoff in Gen.Enum<RetryBackoff>()
        from baseMilliseconds in Gen.Int[0, 300]
        from capMilliseconds in Gen.Int[300, 1_000]
        from expectedMilliseconds in Gen.Int[0, 200]
        from tokens in Gen.Int[1, 12]
        from ratio in Gen.Int[1, 2_000]
        select new Setup(maxAttempts, backoff, baseMilliseconds, capMilliseconds, expectedMilliseconds, tokens, ratio);

    private static readonly Gen<Step> Steps =
        from outcome in Gen.Frequency((3, Gen.Const(Outcome.Success)), (4, Gen.Enum<Outcome>()))
        from hint in Gen.Frequency((3, Gen.Const(Hint.None)), (2, Gen.Enum<Hint>()))
        from hintMilliseconds in Gen.Int[-100, 3_000]
        from cancel in Gen.Frequency((12, Gen.Const(Cancel.Never)), (1, Gen.Enum<Cancel>()))
        select new Step(outcome, hint, hintMilliseconds, cancel);

    private static readonly Gen<Call> Calls =
        from left in Gen.Frequency((2, Gen.Const(() => (int?)null)), (1, Gen.Int[-50, 4_000].Select(value => (int?)value)))
        from steps in Steps.Array[6]
        select new Call(left, steps);

    private enum Outcome
    {
        Success,
        Failure,
        FailedResult,
        ArgumentError,
        InnerTimeout,
    }

    private enum Hint
    {
        None,
        Delay,
        Never,
        Throws,
    }

    private enum Cancel
    {
        Never,
        DuringAttempt,
        DuringWait,
    }

    [Fact]
    public void A_policy_does_what_its_model_does() => Gen.Select(Setups, Calls.Array[1, 12]).Sample((setup, calls) =>
    {
        var subject = new Subject(setup);
        var model = new Model(setup);
        foreach (Call call in calls)
        {
            subject.Run(call).Should().Be(model.Run(call));
        }
    });

    private sealed record Setup(int MaxAttempts, RetryBackoff Backoff, int Base, int Cap, int Expected, int Tokens, int Ratio);

    private sealed record Step(Outcome Outcome, Hint Hint, int HintMilliseconds, Cancel Cancel);

    private sealed record Call(int? Left, Step[] Steps)
    {
        public override string ToString() => $"left {Left}: {string.Join(" | ", Steps.AsEnumerable())}";
    }

    /// <summary>The reference, in milliseconds and thousandths of a token.</summary>
    private sealed class Model(Setup setup)
    {
        private int _tokens = setup.Tokens * 1000;

        public string Run(Call call)
        {
            List<int> waits = [];
            for (int attempt = 1; ; attempt++)
            {
                Step step = call.Steps[attempt - 1];
                string seen = $"{step.Outcome} {attempt} after {string.Join(",", waits)}, ";
                if (step.Outcome == Outcome.Success)
                {
                    _tokens = Math.Min(setup.Tokens * 1000, _tokens + setup.Ratio);
                    return seen + _tokens;
                }

                if (step.Cancel == Cancel.DuringAttempt || step.Outcome == Outcome.ArgumentError)
                {
                    return seen + _tokens;
                }

                _tokens = Math.Max(0, _tokens - 1000);
                if (attempt == setup.MaxAttempts || step.Hint == Hint.Never)
                {
                    return seen + _tokens;
                }

                int grown = setup.Base * (setup.Backoff == RetryBackoff.Constant ? 1 : setup.Backoff == RetryBackoff.Linear ? attempt : 1 << (attempt - 1));
                int wait = step.Hint == Hint.Delay ? Math.Clamp(step.HintMilliseconds, 0, 2_000) : Math.Min(grown, setup.Cap);
                if (call.Left - waits.Sum() <= wait + setup.Expected || _tokens <= setup.Tokens * 500)
                {
                    return seen + _tokens;
                }

                if (wait > 0)
                {
                    waits.Add(wait);
                    if (step.Cancel == Cancel.DuringWait)
                    {
                        return $"Cancelled {attempt} after {string.Join(",", waits)}, {_tokens}";
                    }
                }
            }
        }
    }

    private sealed class Subject
    {
        private readonly InstantTime _time = new();
        private readonly RetryBudget _budget;
        private readonly RetryPolicy _policy;
        private Call _call = null!;
        private int _attempt;
        private long _start;

        public Subject(Setup setup)
        {
            _budget = new RetryBudget(new RetryBudgetOptions { MaxTokens = setup.Tokens, TokenRatio = setup.Ratio / 1000.0 });
            _policy = new RetryPolicy(
                new RetryPolicyOptions
                {
                    MaxAttempts = setup.MaxAttempts,
                    Backoff = setup.Backoff,
                    BaseDelay = TimeSpan.FromMilliseconds(setup.Base),
                    MaxDelay = TimeSpan.FromMilliseconds(setup.Cap),
                    Jitter = RetryJitter.None,
                    MaxDelayHint = TimeSpan.FromSeconds(2),
                    ExpectedAttemptTime = TimeSpan.FromMilliseconds(setup.Expected),
                    Budget = _budget,
                    DelayHint = _ => Told(),
                    TimeLeft = () => _call.Left is { } left ? TimeSpan.FromMilliseconds(left) - _time.GetElapsedTime(_start) : null,
                }.RetryOn<Outcome>(result => result == Outcome.FailedResult).DelayHintFor<Outcome>(_ => Told()),
                _time);
        }

        private Step Current => _call.Steps[_attempt - 1];

        public string Run(Call call)
        {
            (_call, _attempt, _start) = (call, 0, _time.GetTimestamp());
            _time.Waits.Clear();
            using var source = new CancellationTokenSource();
            _time.Hold = _ =>
            {
                if (Current.Cancel == Cancel.DuringWait)
                {
                    source.Cancel();
                }

                return Current.Cancel == Cancel.DuringWait;
            };
            ValueTask<Outcome> task = _policy.ExecuteAsync((attempt, _) => Act(attempt, source), source.Token);
            task.IsCompleted.Should().BeTrue("no wait is left");
            string outcome;
            try
            {
                outcome = task.Result.ToString();
            }
            catch (OperationCanceledException exception) when (exception.CancellationToken == source.Token)
            {
                outcome = "Cancelled";
            }
            catch (OperationCanceledException)
            {
                outcome = nameof(Outcome.InnerTimeout);
            }
            catch (ArgumentException)
            {
                outcome = nameof(Outcome.ArgumentError);
            }
            catch (IOException)
            {
                outcome = nameof(Outcome.Failure);
            }

            return $"{outcome} {_attempt} after {string.Join(",", _time.Waits.Select(wait => wait.TotalMilliseconds))}, {Math.Round(_budget.Tokens * 1000)}";
        }

        private ValueTask<Outcome> Act(RetryAttempt attempt, CancellationTokenSource source)
        {
            _attempt.Should().Be(attempt.Number - 1);
            _attempt = attempt.Number;
            if (Current.Cancel == Cancel.DuringAttempt)
            {
                source.Cancel();
            }

            return Current.Outcome switch
            {
                Outcome.Failure => ValueTask.FromException<Outcome>(new IOException()),
                Outcome.ArgumentError => throw new ArgumentException("an argument"),
                Outcome.InnerTimeout => ValueTask.FromCanceled<Outcome>(new CancellationToken(canceled: true)),
                Outcome outcome => new ValueTask<Outcome>(outcome),
            };
        }

        private TimeSpan? Told() => Current.Hint switch
        {
            Hint.Delay => TimeSpan.FromMilliseconds(Current.HintMilliseconds == -1 ? -2 : Current.HintMilliseconds),
            Hint.Never => Timeout.InfiniteTimeSpan,
            Hint.Throws => throw new InvalidOperationException("bug"),
            _ => null,
        };
    }
}
