using System.Runtime.CompilerServices;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.TimeoutBudgets.Tests;

public sealed class TimeoutBudgetLifetimeTests
{
    private readonly FakeTimeProvider _time = new();

    [Fact]
    public async Task No_token_source_is_used_for_two_executions()
    {
        var policy = new TimeoutBudgetPolicy(new TimeoutBudgetOptions { Total = TimeSpan.FromSeconds(10) }, _time);
        HashSet<CancellationToken> tokens = [];
        for (int i = 0; i < 10_000; i++)
        {
            await policy.ExecuteAsync(token =>
            {
                tokens.Add(token);
                return ValueTask.CompletedTask;
            }, CancellationToken.None);
        }

        tokens.Should().HaveCount(10_000);
    }

    [Fact]
    public async Task A_token_that_background_work_of_one_call_kept_never_fires_for_another_call()
    {
        var policy = new TimeoutBudgetPolicy(new TimeoutBudgetOptions { Total = TimeSpan.FromSeconds(10) }, _time);
        List<CancellationToken> kept = [];
        for (int i = 0; i < 100; i++)
        {
            await policy.ExecuteAsync(token =>
            {
                kept.Add(token);
                return ValueTask.CompletedTask;
            }, CancellationToken.None);
        }

        Task[] expiring = [.. Enumerable.Range(0, 100).Select(_ => policy.ExecuteAsync(token => Task.Delay(Timeout.InfiniteTimeSpan, _time, token), CancellationToken.None).AsTask())];
        _time.Advance(TimeSpan.FromSeconds(60));
        await Task.WhenAll(expiring.Select(e => e.Awaiting(t => t.Soon()).Should().ThrowExactlyAsync<TimeoutBudgetExceededException>()));

        kept.Should().OnlyContain(token => !token.IsCancellationRequested);
    }

    [Fact]
    public void What_completes_at_once_costs_192_bytes() => AllocatedBy(
        new TimeoutBudgetPolicy(new TimeoutBudgetOptions { Total = TimeSpan.FromSeconds(10) }, _time)).Should().Be(192);

    [Fact]
    public void A_budget_that_an_outer_one_ends_sooner_costs_no_more()
    {
        var policy = new TimeoutBudgetPolicy(new TimeoutBudgetOptions { Total = TimeSpan.FromSeconds(10) }, _time);

        long bytes = AllocatedBy(policy, () => TimeoutBudget.Start(TimeSpan.FromSeconds(5), "", _time));

        bytes.Should().Be(192);
    }

    [Fact]
    public async Task Work_that_goes_on_keeps_neither_the_budgets_it_ran_in_nor_their_callers_alive()
    {
        var gate = new TaskCompletionSource();
        (Task background, WeakReference[] leftBehind) = StartWorkInsideThreeScopes(gate.Task);

        CollectEverything();
        bool[] alive = [.. leftBehind.Select(reference => reference.IsAlive)];
        gate.SetResult();
        await background;

        alive.Should().NotContain(true);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(-1)]
    public void A_relay_of_work_that_starts_inside_the_scope_before_keeps_no_chain_of_ended_scopes(int step)
    {
        (TimeoutBudget last, List<WeakReference> scopes) = Relay(step);

        CollectEverything();

        scopes.Count(scope => scope.IsAlive).Should().BeLessThan(10, "each ends the one before it and must not keep it, with deadlines of its own or without");
        GC.KeepAlive(last);
        last.Dispose();
    }

    /// <summary>Each scope starts inside the one before, which then ends.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private (TimeoutBudget Last, List<WeakReference> Scopes) Relay(int step)
    {
        List<WeakReference> scopes = [];
        TimeoutBudget? last = null;
        ExecutionContext context = ExecutionContext.Capture()!;
        for (int i = 0; i < 500; i++)
        {
            ExecutionContext.Run(
                context,
                _ =>
                {
                    var next = TimeoutBudget.Start(TimeSpan.FromSeconds(1_000 + step * i), "", _time);
                    scopes.Add(new WeakReference(BudgetScope.Current));
                    context = ExecutionContext.Capture()!;
                    last?.Dispose();
                    last = next;
                },
                null);
        }

        return (last!, scopes);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private (Task Background, WeakReference[] LeftBehind) StartWorkInsideThreeScopes(Task gate)
    {
        var caller = new CancellationTokenSource();
        using var outer = TimeoutBudget.Start(TimeSpan.FromSeconds(30), "", _time, caller.Token);
        using var middle = TimeoutBudget.Start(TimeSpan.FromSeconds(20), "", _time);
        using var inner = TimeoutBudget.Start(TimeSpan.FromSeconds(10), "", _time);
        var background = Task.Run(async () => await gate);
        return (background, [new(outer), new(middle), new(inner), new(caller)]);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void CollectEverything()
    {
        for (int i = 0; i < 3; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }
    }

    /// <summary>Measured on a thread with an execution context of its own: every other async-local that is set makes the changed context larger.</summary>
    private static long AllocatedBy(TimeoutBudgetPolicy policy, Func<IDisposable>? around = null)
    {
        long bytes = 0;
        var thread = new Thread(() =>
        {
            using IDisposable? outer = around?.Invoke();
            Run(1_000);
            long before = GC.GetAllocatedBytesForCurrentThread();
            Run(1_000);
            bytes = (GC.GetAllocatedBytesForCurrentThread() - before) / 1_000;
        });
        thread.UnsafeStart();
        thread.Join();
        return bytes;

        void Run(int times)
        {
            for (int i = 0; i < times; i++)
            {
                _ = policy.ExecuteAsync(static (state, _) => new ValueTask<int>(state), 42).Result;
            }
        }
    }
}
