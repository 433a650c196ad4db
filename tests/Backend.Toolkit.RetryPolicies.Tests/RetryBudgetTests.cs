using CsCheck;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.RetryPolicies.Tests;

public sealed class RetryBudgetTests
{
    private readonly FakeTimeProvider _time = new();

    [Fact]
    public void Ten_tokens_and_ratio_a_tenth_throttle_after_exactly_five_straight_failures()
    {
        var budget = new RetryBudget(new RetryBudgetOptions());

        bool[] allowed = [.. Enumerable.Range(0, 7).Select(_ => budget.OnFailure())];

        allowed.Should().Equal(true, true, true, true, false, false, false);
        budget.Tokens.Should().Be(3);
    }

    [Fact]
    public void Throttled_tokens_allow_a_retry_again_once_successes_lift_them_above_half()
    {
        var budget = new RetryBudget(new RetryBudgetOptions());
        for (int i = 0; i < 5; i++)
        {
            budget.OnFailure();
        }

        Succeed(budget, 10);
        bool atSix = budget.OnFailure();
        Succeed(budget, 11);
        bool atSixAndATenth = budget.OnFailure();

        atSix.Should().BeFalse("6 - 1 is half, and half is not enough");
        atSixAndATenth.Should().BeTrue();
    }

    [Fact]
    public void Tokens_stay_between_zero_and_the_maximum()
    {
        var budget = new RetryBudget(new RetryBudgetOptions { MaxTokens = 2, TokenRatio = 0.3 });

        Succeed(budget, 5);
        double full = budget.Tokens;
        for (int i = 0; i < 5; i++)
        {
            budget.OnFailure();
        }

        double empty = budget.Tokens;
        Succeed(budget, 100);

        full.Should().Be(2);
        empty.Should().Be(0);
        budget.Tokens.Should().Be(2);
    }

    [Fact]
    public void The_ratio_allows_a_share_of_the_recent_calls()
    {
        RetryBudget budget = Ratio(ratio: 0.2, minimum: 0);
        Request(budget, 104);

        int taken = TakeAll(budget);

        taken.Should().Be(20);
    }

    [Fact]
    public void The_floor_allows_retries_with_hardly_any_traffic()
    {
        RetryBudget budget = Ratio(ratio: 0.2, minimum: 10);

        int taken = TakeAll(budget);

        taken.Should().Be(100, "10 per second over a window of 10 s");
    }

    [Fact]
    public void Calls_and_retries_leave_the_window_after_its_length()
    {
        RetryBudget budget = Ratio(ratio: 0.5, minimum: 0);
        Request(budget, 100);
        TakeAll(budget);

        _time.Advance(TimeSpan.FromSeconds(5));
        Request(budget, 20);
        int early = TakeAll(budget);
        _time.Advance(TimeSpan.FromSeconds(5.001));
        int late = TakeAll(budget);
        _time.Advance(TimeSpan.FromSeconds(10));
        int gone = TakeAll(budget);

        early.Should().Be(10);
        late.Should().Be(0, "20 calls and 10 retries are left");
        gone.Should().Be(0, "nothing is left");
    }

    [Fact]
    public void Retries_that_leave_the_window_free_the_budget()
    {
        RetryBudget budget = Ratio(ratio: 0, minimum: 1);
        int first = TakeAll(budget);

        _time.Advance(TimeSpan.FromSeconds(9));
        int within = TakeAll(budget);
        _time.Advance(TimeSpan.FromSeconds(2.001));
        int after = TakeAll(budget);

        first.Should().Be(10);
        within.Should().Be(0);
        after.Should().Be(10);
    }

    [Fact]
    public void No_stretch_of_one_window_wherever_it_starts_has_more_retries_than_allowed()
    {
        RetryBudget budget = Ratio(ratio: 0, minimum: 10);
        _time.Advance(TimeSpan.FromSeconds(0.99));
        int first = TakeAll(budget);

        _time.Advance(TimeSpan.FromSeconds(9.02));
        int second = TakeAll(budget);

        first.Should().Be(100);
        second.Should().Be(0);
    }

    [Fact]
    public void A_reload_that_shortens_the_window_is_no_burst()
    {
        var budget = new RetryBudget(new RetryBudgetOptions { Rule = RetryBudgetRule.Ratio, RetryRatio = 0.2, MinRetriesPerSecond = 0, Window = TimeSpan.FromMinutes(10) }, _time);
        for (int second = 0; second < 540; second++)
        {
            for (int call = 0; call < 10; call++)
            {
                budget.OnRequest();
            }

            _time.Advance(TimeSpan.FromSeconds(1));
        }

        budget.Update(new RetryBudgetOptions { Rule = RetryBudgetRule.Ratio, RetryRatio = 0.2, MinRetriesPerSecond = 0, Window = TimeSpan.FromSeconds(1) });

        TakeAll(budget).Should().BeInRange(1, 3);
    }

    [Fact]
    public void A_long_silence_leaves_no_stale_counts()
    {
        RetryBudget budget = Ratio(ratio: 1, minimum: 0);
        foreach (int seconds in new[] { 16, 160, 1600, 100_000_000 })
        {
            Request(budget, 7);
            _time.Advance(TimeSpan.FromSeconds(seconds));

            budget.Tokens.Should().Be(0);
        }
    }

    [Fact]
    public void Time_whose_second_has_one_unit_is_good_enough()
    {
        var time = new CoarseTime();
        var budget = new RetryBudget(new RetryBudgetOptions { Rule = RetryBudgetRule.Ratio, RetryRatio = 1, MinRetriesPerSecond = 0 }, time);
        Request(budget, 3);

        double before = budget.Tokens;
        time.Seconds = 8;
        double within = budget.Tokens;
        time.Seconds = 12;
        double after = budget.Tokens;

        before.Should().Be(3);
        within.Should().Be(3);
        after.Should().Be(0);
    }

    [Fact]
    public void An_unlimited_budget_counts_nothing_and_cannot_be_updated()
    {
        RetryBudget budget = RetryBudget.Unlimited;
        for (int i = 0; i < 1000; i++)
        {
            budget.OnRequest();
            (budget.OnFailure() && budget.TryTake()).Should().BeTrue();
        }

        Action update = () => budget.Update(new RetryBudgetOptions());

        budget.Tokens.Should().Be(double.PositiveInfinity);
        update.Should().Throw<InvalidOperationException>().WithMessage("*new RetryBudget(options)*");
    }

    [Fact]
    public void An_update_keeps_how_full_the_tokens_are()
    {
        var budget = new RetryBudget(new RetryBudgetOptions());
        for (int i = 0; i < 4; i++)
        {
            budget.OnFailure();
        }

        budget.Update(new RetryBudgetOptions { MaxTokens = 100, TokenRatio = 0.5 });
        double raised = budget.Tokens;
        budget.OnSuccess();
        double afterSuccess = budget.Tokens;
        budget.Update(new RetryBudgetOptions { MaxTokens = 10 });

        raised.Should().Be(60);
        afterSuccess.Should().Be(60.5);
        budget.Tokens.Should().Be(6.05);
    }

    [Fact]
    public void An_update_keeps_the_counted_calls_and_retries_also_with_another_window()
    {
        RetryBudget budget = Ratio(ratio: 0.5, minimum: 0);
        Request(budget, 100);
        for (int i = 0; i < 10; i++)
        {
            budget.TryTake();
        }

        budget.Update(new RetryBudgetOptions { Rule = RetryBudgetRule.Ratio, RetryRatio = 0.3, MinRetriesPerSecond = 0 });
        double sameWindow = budget.Tokens;
        budget.Update(new RetryBudgetOptions { Rule = RetryBudgetRule.Ratio, RetryRatio = 0.3, MinRetriesPerSecond = 0, Window = TimeSpan.FromSeconds(20) });
        double otherWindow = budget.Tokens;
        _time.Advance(TimeSpan.FromSeconds(17));
        double later = budget.Tokens;
        _time.Advance(TimeSpan.FromSeconds(3.001));

        sameWindow.Should().Be(20);
        otherWindow.Should().Be(20);
        later.Should().Be(20);
        budget.Tokens.Should().Be(0);
    }

    [Fact]
    public void Reloads_with_the_same_window_do_not_make_old_calls_young()
    {
        RetryBudget budget = Ratio(ratio: 1, minimum: 0);
        Request(budget, 50);

        for (int i = 0; i < 4; i++)
        {
            _time.Advance(TimeSpan.FromSeconds(3));
            budget.Update(new RetryBudgetOptions { Rule = RetryBudgetRule.Ratio, RetryRatio = 1, MinRetriesPerSecond = 0 });
        }

        budget.Tokens.Should().Be(0);
    }

    [Fact]
    public void Another_rule_starts_full()
    {
        var budget = new RetryBudget(new RetryBudgetOptions(), _time);
        for (int i = 0; i < 9; i++)
        {
            budget.OnFailure();
        }

        budget.Update(new RetryBudgetOptions { Rule = RetryBudgetRule.Ratio });
        double ratio = budget.Tokens;
        TakeAll(budget);
        budget.Update(new RetryBudgetOptions());

        ratio.Should().Be(100);
        budget.Tokens.Should().Be(10);
    }

    [Fact]
    public void An_invalid_update_leaves_the_budget_as_it_was()
    {
        var budget = new RetryBudget(new RetryBudgetOptions());

        Action update = () => budget.Update(new RetryBudgetOptions { MaxTokens = 0 });

        update.Should().Throw<Microsoft.Extensions.Options.OptionsValidationException>();
        budget.Tokens.Should().Be(10);
    }

    [Fact]
    public async Task Policies_share_a_budget_and_a_refused_retry_surfaces_the_last_real_outcome()
    {
        var budget = new RetryBudget(new RetryBudgetOptions());
        RetryPolicy[] policies =
        [
            new(new RetryPolicyOptions { Budget = budget, BaseDelay = TimeSpan.Zero }, _time),
            new(new RetryPolicyOptions { Budget = budget, BaseDelay = TimeSpan.Zero }.RetryOn<int>(result => result < 0), _time),
        ];
        int calls = 0;

        Func<Task> failing = () => policies[0].ExecuteAsync<int>(_ => throw new IOException($"{++calls}")).AsTask();
        await failing.Should().ThrowAsync<IOException>().WithMessage("3");
        int result = await policies[1].ExecuteAsync(_ => new ValueTask<int>(-++calls));

        result.Should().Be(-5, "the second failure of the second policy is the fifth of the budget");
        calls.Should().Be(5);
    }

    [Fact]
    public async Task The_ratio_counts_calls_not_attempts()
    {
        RetryBudget budget = Ratio(ratio: 1, minimum: 0);
        var policy = new RetryPolicy(new RetryPolicyOptions { Budget = budget, MaxAttempts = 10, BaseDelay = TimeSpan.Zero }, _time);
        int calls = 0;

        await ((Func<Task>)(() => policy.ExecuteAsync<int>(_ => throw new IOException($"{++calls}")).AsTask())).Should().ThrowAsync<IOException>();

        calls.Should().Be(2, "one call allows one retry");
    }

    [Fact]
    public void Tokens_follow_their_model() => Gen.Select(Gen.Int[1, 1000], Gen.Int[1, 3000], Gen.Int[0, 10].Array[0, 200]).Sample((max, ratio, steps) =>
    {
        var budget = new RetryBudget(new RetryBudgetOptions { MaxTokens = max, TokenRatio = ratio / 1000.0 });
        long tokens = max * 1000;
        foreach (int step in steps)
        {
            if (step == 0)
            {
                int next = tokens % 7 == 0 ? Math.Max(1, max / 2) : Math.Min(1000, max + 13);
                tokens = tokens * next / max;
                max = next;
                budget.Update(new RetryBudgetOptions { MaxTokens = max, TokenRatio = ratio / 1000.0 });
            }
            else if (step < 6)
            {
                tokens = Math.Max(0, tokens - 1000);
                if (budget.OnFailure() != tokens > max * 500)
                {
                    return false;
                }
            }
            else
            {
                tokens = Math.Min(max * 1000, tokens + ratio);
                budget.OnSuccess();
            }

            if (budget.Tokens != tokens / 1000.0 || !budget.TryTake())
            {
                return false;
            }
        }

        return true;
    });

    [Fact]
    public void The_ratio_follows_its_model() => Gen.Select(Gen.Int[0, 2000], Gen.Int[0, 3], Gen.Int[0, 9].Array[0, 300]).Sample((ratio, minimum, steps) =>
    {
        var time = new FakeTimeProvider();
        long start = time.GetTimestamp();
        var budget = new RetryBudget(
            new RetryBudgetOptions { Rule = RetryBudgetRule.Ratio, RetryRatio = ratio / 1000.0, MinRetriesPerSecond = minimum }, time);
        List<int> calls = [];
        List<int> retries = [];
        foreach (int step in steps)
        {
            // Half a second into each bucket, where it does not matter that a bucket begins one unit late.
            int bucket = (int)((time.GetTimestamp() - start) / TimeSpan.TicksPerSecond);
            int allowed = (calls.Count(other => bucket - other < 10) * ratio + minimum * 10_000) / 1000;
            int spent = retries.Count(other => bucket - other < 11);
            if (budget.Tokens != Math.Max(0, allowed - spent))
            {
                return false;
            }

            if (step < 4)
            {
                calls.Add(bucket);
                budget.OnRequest();
            }
            else if (step < 9)
            {
                if (budget.TryTake() != spent < allowed)
                {
                    return false;
                }

                if (spent < allowed)
                {
                    retries.Add(bucket);
                }
            }
            else
            {
                time.Advance(TimeSpan.FromSeconds(1 + spent % 20) + (time.GetTimestamp() == start ? TimeSpan.FromSeconds(0.5) : TimeSpan.Zero));
            }
        }

        return true;
    });

    [Fact]
    public void Tokens_are_linearizable() => Gen.Const(0).Select(_ => new Trial(new RetryBudget(new RetryBudgetOptions { MaxTokens = 3, TokenRatio = 0.7 }))).SampleParallel(
        Gen.Operation<Trial>(trial => trial.Budget.OnSuccess()),
        Gen.Operation<Trial>(trial => trial.Fail()),
        (parallel, sequential) => parallel.Budget.Tokens == sequential.Budget.Tokens && parallel.Allowed == sequential.Allowed,
        iter: 200);

    [Fact]
    public async Task Tokens_cannot_be_overspent_by_any_number_of_threads()
    {
        for (int round = 0; round < 50; round++)
        {
            var budget = new RetryBudget(new RetryBudgetOptions { MaxTokens = 1000 });

            int allowed = (await OnThreads(8, () => Enumerable.Range(0, 250).Count(_ => budget.OnFailure() && budget.TryTake()))).Sum();

            allowed.Should().Be(499, "the 500th failure leaves half");
            budget.Tokens.Should().Be(0);
        }
    }

    [Fact]
    public async Task No_success_is_lost_among_threads()
    {
        var budget = new RetryBudget(new RetryBudgetOptions { MaxTokens = 1000, TokenRatio = 0.125 });
        for (int i = 0; i < 1000; i++)
        {
            budget.OnFailure();
        }

        await OnThreads(4, () =>
        {
            Succeed(budget, 1000);
            return 0;
        });

        budget.Tokens.Should().Be(500);
    }

    [Fact]
    public async Task The_ratio_cannot_be_overspent_by_any_number_of_threads()
    {
        for (int round = 0; round < 20; round++)
        {
            RetryBudget budget = Ratio(ratio: 0.2, minimum: 1);

            int[] taken = await OnThreads(8, () =>
            {
                int count = 0;
                for (int i = 0; i < 1000; i++)
                {
                    budget.OnRequest();
                    count += budget.TryTake() ? 1 : 0;
                    count += budget.TryTake() ? 1 : 0;
                }

                return count;
            });

            (taken.Sum() + TakeAll(budget)).Should().Be(1610, "20 % of 8000 and the floor of 10");
        }
    }

    [Fact]
    public async Task No_call_is_lost_among_threads()
    {
        RetryBudget budget = Ratio(ratio: 1, minimum: 0);

        await OnThreads(8, () =>
        {
            Request(budget, 100_000);
            return 0;
        });

        budget.Tokens.Should().Be(800_000);
    }

    [Fact]
    public async Task The_ratio_is_never_overspent_while_time_passes_and_options_reload()
    {
        RetryBudget budget = Ratio(ratio: 0.1, minimum: 0);
        int requests = 0;

        int[] taken = await OnThreads(4, () =>
        {
            int count = 0;
            for (int i = 0; i < 2000; i++)
            {
                Interlocked.Increment(ref requests);
                budget.OnRequest();
                count += budget.TryTake() ? 1 : 0;
                if (i % 100 == 0)
                {
                    _time.Advance(TimeSpan.FromSeconds(0.4));
                    budget.Update(new RetryBudgetOptions
                    {
                        Rule = RetryBudgetRule.Ratio,
                        RetryRatio = 0.1,
                        MinRetriesPerSecond = 0,
                        Window = TimeSpan.FromSeconds(i % 200 == 0 ? 10 : 60),
                    });
                }
            }

            return count;
        });

        // A call is counted once and serves as long as the retries taken for it are remembered; it may serve again only after those are forgotten.
        // Each shortening of the window takes calls away and leaves the retries, so it may be far less.
        taken.Sum().Should().BeInRange(1, requests / 10 + 1);
    }

    [Fact]
    public void Exhaustion_is_reported_once_until_the_tokens_are_full_again()
    {
        var budget = new RetryBudget(new RetryBudgetOptions());
        for (int i = 0; i < 5; i++)
        {
            budget.OnFailure();
        }

        bool first = budget.IsNewlyExhausted();
        Succeed(budget, 49);
        bool stillRecovering = budget.IsNewlyExhausted();
        Succeed(budget, 1);
        bool next = budget.IsNewlyExhausted();

        first.Should().BeTrue();
        stillRecovering.Should().BeFalse();
        next.Should().BeTrue();
    }

    [Fact]
    public void Exhaustion_is_reported_once_until_half_of_the_ratio_is_unspent_again()
    {
        RetryBudget budget = Ratio(ratio: 0.1, minimum: 0);
        Request(budget, 100);
        TakeAll(budget);

        bool first = budget.IsNewlyExhausted();
        Request(budget, 10);
        budget.TryTake();
        bool trickle = budget.IsNewlyExhausted();
        Request(budget, 200);
        budget.TryTake();
        bool next = budget.IsNewlyExhausted();

        first.Should().BeTrue();
        trickle.Should().BeFalse();
        next.Should().BeTrue();
    }

    private RetryBudget Ratio(double ratio, int minimum) =>
        new(new RetryBudgetOptions { Rule = RetryBudgetRule.Ratio, RetryRatio = ratio, MinRetriesPerSecond = minimum }, _time);

    private static void Succeed(RetryBudget budget, int times)
    {
        for (int i = 0; i < times; i++)
        {
            budget.OnSuccess();
        }
    }

    private static void Request(RetryBudget budget, int times)
    {
        for (int i = 0; i < times; i++)
        {
            budget.OnRequest();
        }
    }

    private static int TakeAll(RetryBudget budget)
    {
        int taken = 0;
        while (budget.TryTake())
        {
            taken++;
        }

        return taken;
    }

    private static async Task<int[]> OnThreads(int count, Func<int> work)
    {
        using var start = new Barrier(count);
        return await Task.WhenAll(Enumerable.Range(0, count).Select(_ => Task.Factory.StartNew(
            () =>
            {
                start.SignalAndWait();
                return work();
            },
            CancellationToken.None,
            TaskCreationOptions.LongRunning,
            TaskScheduler.Default)));
    }

    private sealed class Trial(RetryBudget budget)
    {
        private int _allowed;

        public RetryBudget Budget => budget;

        public int Allowed => _allowed;

        public void Fail() => Interlocked.Add(ref _allowed, budget.OnFailure() ? 1 : 0);
    }

    private sealed class CoarseTime : TimeProvider
    {
        public long Seconds { get; set; }

        public override long TimestampFrequency => 1;

        public override long GetTimestamp() => Seconds;
    }
}
