using System.Collections.Concurrent;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.TimeoutBudgets.Tests;

public sealed class TimeoutBudgetConcurrencyTests
{
    [Fact]
    public async Task Each_token_fires_if_and_only_if_its_deadline_passed_while_the_scope_lived()
    {
        var time = new FakeTimeProvider();
        var kept = new ConcurrentBag<TimeoutBudget>();
        var ended = new ConcurrentBag<(TimeoutBudget Scope, bool MayHaveFired)>();
        int early = 0;
        void Work(int seed)
        {
            var random = new Random(seed);
            for (int i = 0; i < 4_000; i++)
            {
                using IDisposable apart = TimeoutBudget.Suppress();
                var scope = TimeoutBudget.Start(TimeSpan.FromTicks(random.Next(1, 2_000)), "", time);
                scope.Token.UnsafeRegister(_ => Interlocked.Add(ref early, scope.IsExpired ? 0 : 1), null);
                var inner = TimeoutBudget.Start(TimeSpan.FromTicks(random.Next(1, 2_000)), "", time);
                inner.Token.UnsafeRegister(_ => Interlocked.Add(ref early, inner.IsExpired ? 0 : 1), null);
                if (random.Next(2) == 0)
                {
                    scope.Dispose();
                    inner.Dispose();
                    ended.Add((scope, scope.IsExpired));
                    ended.Add((inner, inner.IsExpired));
                }
                else
                {
                    kept.Add(scope);
                    kept.Add(inner);
                }
            }
        }

        Task[] workers = [.. Enumerable.Range(0, 4).Select(seed => Task.Factory.StartNew(() => Work(seed), TaskCreationOptions.LongRunning))];
        while (!Task.WhenAll(workers).IsCompleted)
        {
            time.Advance(TimeSpan.FromTicks(37));
        }

        await Task.WhenAll(workers);
        time.Advance(TimeSpan.FromTicks(2_000));

        kept.Should().NotBeEmpty();
        kept.Count(scope => !scope.Token.IsCancellationRequested).Should().Be(0, "none is lost");
        ended.Count(scope => scope.Scope.Token.IsCancellationRequested && !scope.MayHaveFired).Should().Be(0, "an ended scope does not fire");
        Volatile.Read(ref early).Should().Be(0, "none fires early");
    }

    [Fact]
    public async Task Executions_on_several_threads_end_each_by_its_own_deadline()
    {
        var time = new FakeTimeProvider();
        int wrong = 0;
        int expired = 0;
        async Task Work(int seed)
        {
            var random = new Random(seed);
            for (int i = 0; i < 1_000; i++)
            {
                var total = TimeSpan.FromTicks(random.Next(1, 300));
                var policy = new TimeoutBudgetPolicy(new TimeoutBudgetOptions { Total = total }, time);
                try
                {
                    await policy.ExecuteAsync(async token =>
                    {
                        await Task.Yield();
                        if (random.Next(4) == 0)
                        {
                            await Task.Delay(Timeout.InfiniteTimeSpan, time, token);
                        }
                    }, CancellationToken.None);
                }
                catch (TimeoutBudgetExceededException exception)
                {
                    Interlocked.Increment(ref expired);
                    Interlocked.Add(ref wrong, exception.Total == total && exception.Elapsed >= total ? 0 : 1);
                }
            }
        }

        Task all = Task.WhenAll(Enumerable.Range(0, 4).Select(seed => Task.Run(() => Work(seed))));
        while (!all.IsCompleted)
        {
            time.Advance(TimeSpan.FromTicks(11));
            await Task.Yield();
        }

        await all;
        expired.Should().BeGreaterThan(0);
        wrong.Should().Be(0);
    }

    [Fact]
    public async Task Nested_scopes_that_depend_on_one_outer_scope_may_start_and_end_on_any_thread()
    {
        var time = new FakeTimeProvider();
        for (int round = 0; round < 200; round++)
        {
            var outer = TimeoutBudget.Start(TimeSpan.FromTicks(100), "", time);
            CancellationToken token = outer.Token;
            Task<TimeoutBudget>[] inner =
            [
                .. Enumerable.Range(0, 4).Select(i => Task.Run(() =>
                {
                    for (int j = 0; j < 20; j++)
                    {
                        TimeoutBudget.Start(TimeSpan.FromTicks(1_000), "", time).Dispose();
                    }

                    return TimeoutBudget.Start(TimeSpan.FromTicks(1_000), "", time);
                })),
            ];
            outer.Dispose();
            TimeoutBudget[] scopes = await Task.WhenAll(inner);
            bool dependedOn = scopes.Any(scope => scope.Token == token);

            Array.ForEach(scopes[1..], scope => scope.Dispose());
            time.Advance(TimeSpan.FromTicks(100));

            (scopes[0].IsExpired == scopes[0].Token.IsCancellationRequested).Should().BeTrue("a scope that depends on an outer deadline keeps it");
            (dependedOn || !token.IsCancellationRequested).Should().BeTrue("a scope that nobody depends on is taken out");
            scopes[0].Dispose();
        }
    }
}
