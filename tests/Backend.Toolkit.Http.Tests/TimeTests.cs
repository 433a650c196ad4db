using System.Net;
using Backend.Toolkit.RetryPolicies;
using Backend.Toolkit.TimeoutBudgets;

namespace Backend.Toolkit.Http.Tests;

/// <summary>Deadlines and cancellation.</summary>
public sealed class TimeTests
{
    private static readonly TimeSpan Second = TimeSpan.FromSeconds(1);

    [Fact]
    public async Task The_defaults_are_30_s_for_the_call_and_10_s_for_an_attempt()
    {
        using var outbound = new Outbound();
        outbound.Server.Hangs();

        Task<HttpResponseMessage> call = outbound.GetAsync();
        outbound.Time.Advance(10 * Second - TimeSpan.FromMilliseconds(1));
        int early = outbound.Server.Count;
        outbound.Time.Advance(TimeSpan.FromMilliseconds(1));
        Eventually.BeTrue(() => outbound.Server.Count == 2, "the second attempt begins");
        outbound.Time.Advance(10 * Second);
        Eventually.BeTrue(() => outbound.Server.Count == 3, "the third attempt begins");
        outbound.Time.Advance(10 * Second);

        TimeoutBudgetExceededException exceeded = (await FluentActions.Awaiting(() => call.Soon()).Should().ThrowAsync<TimeoutBudgetExceededException>()).Which;
        (exceeded.Name, exceeded.Total, exceeded.Elapsed, early).Should().Be(("shop", 30 * Second, 30 * Second, 1));
    }

    [Fact]
    public async Task An_attempt_that_times_out_is_retried()
    {
        using var outbound = new Outbound();
        outbound.Server.Answer = static (number, _, token) => number == 1 ? Server.Hang(token) : Task.FromResult<HttpResponseMessage>(new Reply(200));

        Task<HttpResponseMessage> call = outbound.GetAsync();
        outbound.Time.Advance(10 * Second);
        using HttpResponseMessage response = await call.Soon();

        response.StatusCode.Should().Be(HttpStatusCode.OK);
        outbound.Server.Count.Should().Be(2);
    }

    [Fact]
    public async Task A_post_without_key_whose_attempt_times_out_fails_with_the_attempts_name()
    {
        using var outbound = new Outbound();
        outbound.Server.Hangs();

        Task<HttpResponseMessage> call = outbound.SendAsync(Outbound.Request("POST"));
        outbound.Time.Advance(10 * Second);

        (await FluentActions.Awaiting(() => call.Soon()).Should().ThrowAsync<TimeoutBudgetExceededException>()).Which.Name.Should().Be("shop-attempt");
    }

    [Fact]
    public async Task The_last_attempt_ends_with_the_call()
    {
        using var outbound = new Outbound(o => o.Budget!.Total = 12 * Second);
        outbound.Server.Hangs();

        Task<HttpResponseMessage> call = outbound.GetAsync();
        outbound.Time.Advance(10 * Second);
        Eventually.BeTrue(() => outbound.Server.Count == 2, "the second attempt begins");
        outbound.Time.Advance(2 * Second);

        TimeoutBudgetExceededException exceeded = (await FluentActions.Awaiting(() => call.Soon()).Should().ThrowAsync<TimeoutBudgetExceededException>()).Which;
        (exceeded.Name, exceeded.Elapsed).Should().Be(("shop", 12 * Second));
        outbound.Server.Arrivals.Select(arrival => arrival.Header("Timeout-Budget")).Should().Equal("9990", "1990");
    }

    [Fact]
    public async Task A_total_of_zero_fails_without_a_send()
    {
        using var outbound = new Outbound(o => o.Budget!.Total = TimeSpan.Zero);

        Func<Task> call = () => outbound.GetAsync();

        (await call.Should().ThrowAsync<TimeoutBudgetExceededException>()).Which.Name.Should().Be("shop");
        outbound.Server.Count.Should().Be(0);
    }

    [Fact]
    public async Task Without_budget_and_attempt_part_nothing_ends_the_call_and_nothing_is_told()
    {
        using var outbound = new Outbound(o => (o.Budget, o.Attempt) = (null, null));
        var answer = new TaskCompletionSource<HttpResponseMessage>();
        outbound.Server.Answer = (_, _, token) => answer.Task.WaitAsync(token);

        Task<HttpResponseMessage> call = outbound.SendAsync(Outbound.Request("GET", null, ("Timeout-Budget", "77")));
        outbound.Time.Advance(TimeSpan.FromDays(400));
        answer.SetResult(new Reply(200));

        (await call.Soon()).StatusCode.Should().Be(HttpStatusCode.OK);
        outbound.Server.Arrivals.Should().ContainSingle().Which.Header("Timeout-Budget").Should().BeNull();
    }

    [Fact]
    public async Task A_shorter_ambient_budget_ends_the_call_for_its_owner()
    {
        using var outbound = new Outbound();
        outbound.Server.Hangs();
        var around = new TimeoutBudgetPolicy(new TimeoutBudgetOptions { Name = "page", Total = 2 * Second }, outbound.Time);

        Task<HttpResponseMessage> call = around.ExecuteAsync(async token => await outbound.GetAsync(token)).AsTask();
        outbound.Time.Advance(2 * Second);

        (await FluentActions.Awaiting(() => call.Soon()).Should().ThrowAsync<TimeoutBudgetExceededException>()).Which.Name.Should().Be("page");
        outbound.Server.Arrivals.Should().ContainSingle().Which.Header("Timeout-Budget").Should().Be("1990");
        outbound.Logs.Entries.Should().BeEmpty();
    }

    [Fact]
    public async Task A_wait_that_would_outlive_the_ambient_budget_is_not_begun()
    {
        using var outbound = new Outbound(o => (o.Retry!.BaseDelay, o.Retry.Jitter) = (3 * Second, RetryJitter.None));
        outbound.Server.Answers(503);
        using var ambient = TimeoutBudget.Start(2 * Second, "page", outbound.Time);

        using HttpResponseMessage response = await outbound.GetAsync().Soon();

        response.StatusCode.Should().Be(HttpStatusCode.ServiceUnavailable);
        outbound.Server.Count.Should().Be(1);
    }

    [Fact]
    public async Task The_header_tells_what_is_left_anew_on_each_attempt()
    {
        using var outbound = new Outbound(o =>
        {
            (o.Budget!.Total, o.Attempt!.Total) = (5 * Second, 4 * Second);
            (o.Retry!.BaseDelay, o.Retry.Jitter, o.Retry.Backoff) = (1.5 * Second, RetryJitter.None, RetryBackoff.Constant);
        });
        outbound.Time.PassesAtOnce = true;
        outbound.Server.Answers(503);

        using HttpResponseMessage response = await outbound.GetAsync();

        outbound.Server.Arrivals.Select(arrival => arrival.Header("Timeout-Budget")).Should().Equal("3990", "3490", "1990");
    }

    [Theory]
    [InlineData(1_000, 10, "990")]
    [InlineData(1_000, 0, "1000")]
    [InlineData(5, 10, "0")]
    [InlineData(10, 10, "0")]
    [InlineData(0.9, 0, "0")]
    [InlineData(1.9, 0, "1")]
    public async Task The_header_is_whole_milliseconds_less_the_allowance_and_never_negative(double total, double allowance, string told)
    {
        using var outbound = new Outbound(o =>
        {
            o.Budget!.Total = TimeSpan.FromTicks((long)(total * TimeSpan.TicksPerMillisecond));
            o.NetworkAllowance = TimeSpan.FromMilliseconds(allowance);
        });

        using HttpResponseMessage response = await outbound.GetAsync();

        outbound.Server.Arrivals.Should().ContainSingle().Which.Header("Timeout-Budget").Should().Be(told);
    }

    [Fact]
    public async Task The_longest_budgets_are_digits_too()
    {
        using var outbound = new Outbound(o => (o.Budget!.Total, o.Attempt) = (TimeSpan.MaxValue, null));

        using HttpResponseMessage response = await outbound.GetAsync();

        outbound.Server.Arrivals.Should().ContainSingle().Which.Header("Timeout-Budget").Should().MatchRegex("^[0-9]{15,19}$");
    }

    [Fact]
    public async Task The_header_may_be_left_out()
    {
        using var outbound = new Outbound(o => o.SendTimeoutBudget = false);

        using HttpResponseMessage response = await outbound.GetAsync();

        outbound.Server.Arrivals.Should().ContainSingle().Which.Headers.Should().BeEmpty();
    }

    [Fact]
    public async Task Totals_may_be_asked_for_on_each_call()
    {
        var total = 3 * Second;
        using var outbound = new Outbound(o =>
        {
            o.Budget!.TotalFor = () => total;
            o.Attempt!.TotalFor = () => total == Second ? throw new InvalidOperationException() : total - Second;
        });

        using HttpResponseMessage first = await outbound.GetAsync();
        total = Second;
        using HttpResponseMessage second = await outbound.GetAsync();
        total = TimeSpan.FromTicks(-5);
        using HttpResponseMessage third = await outbound.GetAsync();

        outbound.Server.Arrivals.Select(arrival => arrival.Header("Timeout-Budget")).Should().Equal("1990", "990", "9990");
        outbound.Logs.Texts.Should().Equal(
            "Outbound policy 'shop': Attempt.TotalFor failed, so the total holds.",
            "Outbound policy 'shop': Budget.TotalFor failed, so the total holds.",
            "Outbound policy 'shop': Attempt.TotalFor failed, so the total holds.");
    }

    [Fact]
    public async Task A_caller_that_cancelled_before_sends_nothing()
    {
        using var outbound = new Outbound();
        var cancelled = new CancellationToken(canceled: true);

        Task<HttpResponseMessage> call = outbound.GetAsync(cancelled);

        (await FluentActions.Awaiting(() => call).Should().ThrowAsync<OperationCanceledException>()).Which.CancellationToken.Should().Be(cancelled);
        outbound.Server.Count.Should().Be(0);
    }

    [Fact]
    public async Task An_ambient_budget_that_is_cancelled_ends_the_call_and_is_no_failure_of_anybody()
    {
        using var outbound = new Outbound();
        using var hangUp = new CancellationTokenSource();
        using var ambient = TimeoutBudget.Start(TimeSpan.FromMinutes(1), "page", outbound.Time, hangUp.Token);
        outbound.Server.Hangs();

        Task<HttpResponseMessage> call = outbound.GetAsync();
        hangUp.Cancel();

        await FluentActions.Awaiting(() => call.Soon()).Should().ThrowAsync<OperationCanceledException>();
        outbound.Logs.Entries.Should().BeEmpty();
        outbound.Server.Count.Should().Be(1);
    }

    [Fact]
    public async Task The_longest_total_there_is_is_none()
    {
        using var outbound = new Outbound(o => o.Budget!.Total = TimeSpan.MaxValue);
        outbound.Server.Answers(_ => new Reply(200) { Content = new StringContent("body") });

        using HttpResponseMessage response = await outbound.GetAsync();

        (await response.Content.ReadAsStringAsync()).Should().Be("body");
    }

    [Fact]
    public async Task A_caller_that_cancels_during_an_attempt_gets_its_own_token_back()
    {
        using var outbound = new Outbound();
        using var caller = new CancellationTokenSource();
        outbound.Server.Hangs();

        Task<HttpResponseMessage> call = outbound.GetAsync(caller.Token);
        caller.Cancel();

        (await FluentActions.Awaiting(() => call.Soon()).Should().ThrowAsync<OperationCanceledException>()).Which.CancellationToken.Should().Be(caller.Token);
        outbound.Server.Count.Should().Be(1);
        outbound.Logs.Entries.Should().BeEmpty("a caller that goes is no trouble of the other side");
    }

    [Fact]
    public async Task A_caller_that_cancels_during_a_wait_gets_its_own_token_back_and_the_answer_is_disposed()
    {
        using var outbound = new Outbound(o => (o.Retry!.BaseDelay, o.Retry.Jitter) = (Second, RetryJitter.None));
        using var caller = new CancellationTokenSource();
        outbound.Server.Answers(503);

        Task<HttpResponseMessage> call = outbound.GetAsync(caller.Token);
        bool waited = !call.IsCompleted;
        caller.Cancel();

        (await FluentActions.Awaiting(() => call.Soon()).Should().ThrowAsync<OperationCanceledException>()).Which.CancellationToken.Should().Be(caller.Token);
        outbound.Server.Replies.Should().ContainSingle().Which.IsDisposed.Should().BeTrue();
        waited.Should().BeTrue();
    }

    [Fact]
    public async Task After_a_call_the_ambient_budget_is_what_it_was()
    {
        using var outbound = new Outbound();
        using var ambient = TimeoutBudget.Start(20 * Second, "page", outbound.Time);
        TimeoutBudget? inside = null;
        outbound.Server.Answer = (_, _, _) =>
        {
            inside = TimeoutBudget.Current;
            return Task.FromResult<HttpResponseMessage>(new Reply(200));
        };

        using HttpResponseMessage response = await outbound.GetAsync();

        TimeoutBudget.Current.Should().BeSameAs(ambient);
        inside!.Name.Should().Be("shop-attempt");
    }
}
