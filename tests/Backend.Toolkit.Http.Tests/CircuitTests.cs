using System.Net;
using Backend.Toolkit.CircuitBreakers;
using Backend.Toolkit.TimeoutBudgets;

namespace Backend.Toolkit.Http.Tests;

/// <summary>One circuit per authority, and what counts in it.</summary>
public sealed class CircuitTests
{
    private static readonly HttpAuthority Payments = new("http", "payments", 80);

    [Theory]
    [InlineData(500, 1)]
    [InlineData(501, 1)]
    [InlineData(503, 1)]
    [InlineData(599, 1)]
    [InlineData(429, 0)]
    [InlineData(404, 0)]
    [InlineData(408, 0)]
    [InlineData(200, 0)]
    [InlineData(302, 0)]
    public async Task It_counts_5xx_and_nothing_less(int status, int failures)
    {
        using var outbound = Once();
        outbound.Server.Answers(status);

        using HttpResponseMessage response = await outbound.GetAsync();

        Counts(outbound).Should().Be((1 - failures, failures));
    }

    [Theory]
    [InlineData(HttpRequestError.ConnectionError, 1)]
    [InlineData(HttpRequestError.NameResolutionError, 1)]
    [InlineData(HttpRequestError.SecureConnectionError, 0)]
    [InlineData(HttpRequestError.UserAuthenticationError, 0)]
    public async Task It_counts_connections_that_fail_and_not_what_is_wrong_on_this_side(HttpRequestError error, int failures)
    {
        using var outbound = Once();
        outbound.Server.Answer = (_, _, _) => throw new HttpRequestException(error);

        await FluentActions.Awaiting(() => outbound.GetAsync()).Should().ThrowAsync<HttpRequestException>();

        Counts(outbound).Should().Be((0, failures));
    }

    [Fact]
    public async Task It_counts_attempts_that_time_out()
    {
        using var outbound = Once();
        outbound.Server.Hangs();

        Task<HttpResponseMessage> call = outbound.GetAsync();
        outbound.Time.Advance(TimeSpan.FromSeconds(10));

        await FluentActions.Awaiting(() => call.Soon()).Should().ThrowAsync<TimeoutBudgetExceededException>();
        Counts(outbound).Should().Be((0, 1));
    }

    [Fact]
    public async Task It_does_not_count_an_exhausted_budget()
    {
        using var outbound = Once(o => o.Budget!.Total = TimeSpan.FromSeconds(5));
        outbound.Server.Hangs();

        Task<HttpResponseMessage> call = outbound.GetAsync();
        outbound.Time.Advance(TimeSpan.FromSeconds(5));

        await FluentActions.Awaiting(() => call.Soon()).Should().ThrowAsync<TimeoutBudgetExceededException>();
        Counts(outbound).Should().Be((0, 0));
    }

    [Fact]
    public async Task It_does_not_count_an_exhausted_ambient_budget()
    {
        using var outbound = Once();
        outbound.Server.Hangs();
        using var ambient = TimeoutBudget.Start(TimeSpan.FromSeconds(3), "page", outbound.Time);

        Task<HttpResponseMessage> call = outbound.GetAsync();
        outbound.Time.Advance(TimeSpan.FromSeconds(3));

        await FluentActions.Awaiting(() => call.Soon()).Should().ThrowAsync<OperationCanceledException>();
        Counts(outbound).Should().Be((0, 0));
    }

    [Fact]
    public async Task It_does_not_count_a_caller_that_goes()
    {
        using var outbound = Once();
        outbound.Server.Hangs();
        using var caller = new CancellationTokenSource();

        Task<HttpResponseMessage> call = outbound.GetAsync(caller.Token);
        caller.Cancel();

        await FluentActions.Awaiting(() => call.Soon()).Should().ThrowAsync<OperationCanceledException>();
        Counts(outbound).Should().Be((0, 0));
    }

    [Fact]
    public async Task The_application_may_judge_itself()
    {
        using var outbound = Once(o =>
        {
            o.IsFailure = response => response.StatusCode == HttpStatusCode.TooManyRequests;
            o.CircuitBreaker!.IsFailure = exception => exception is InvalidOperationException;
        });
        outbound.Server.Answer = (number, _, _) => number switch
        {
            1 => Task.FromResult<HttpResponseMessage>(new Reply(429)),
            2 => Task.FromResult<HttpResponseMessage>(new Reply(500)),
            3 => throw new InvalidOperationException(),
            _ => throw new HttpRequestException(HttpRequestError.ConnectionError),
        };

        using HttpResponseMessage first = await outbound.GetAsync();
        using HttpResponseMessage second = await outbound.GetAsync();
        await FluentActions.Awaiting(() => outbound.GetAsync()).Should().ThrowAsync<InvalidOperationException>();
        await FluentActions.Awaiting(() => outbound.GetAsync()).Should().ThrowAsync<HttpRequestException>();

        Counts(outbound).Should().Be((1, 2));
    }

    [Fact]
    public async Task A_connection_that_takes_too_long_to_make_is_one_that_failed()
    {
        using var outbound = new Outbound();
        outbound.Server.Answer = static (_, _, _) => throw new TaskCanceledException("ConnectTimeout", new TimeoutException());

        await FluentActions.Awaiting(() => outbound.GetAsync()).Should().ThrowAsync<TaskCanceledException>();

        outbound.Server.Count.Should().Be(3);
        Counts(outbound).Should().Be((0, 3));
    }

    [Fact]
    public async Task It_does_not_count_content_of_our_own_that_cannot_be_read()
    {
        using var outbound = new Outbound();
        outbound.Server.Answer = static (_, _, _) => throw new HttpRequestException("Error while copying content to a stream.", new IOException("local disk"));

        await FluentActions.Awaiting(() => outbound.SendAsync(Outbound.Request("PUT", new StringContent("x")))).Should().ThrowAsync<HttpRequestException>();

        outbound.Server.Count.Should().Be(1);
        Counts(outbound).Should().Be((0, 0));
    }

    [Fact]
    public async Task It_counts_content_that_the_other_side_does_not_take()
    {
        using var outbound = new Outbound();
        outbound.Server.Answer = static (_, _, _) =>
            throw new HttpRequestException("Error while copying content to a stream.", new IOException("reset", new System.Net.Sockets.SocketException()));

        await FluentActions.Awaiting(() => outbound.SendAsync(Outbound.Request("PUT", new StringContent("x")))).Should().ThrowAsync<HttpRequestException>();

        Counts(outbound).Should().Be((0, 3));
    }

    [Fact]
    public async Task It_does_not_count_a_refusal_of_a_request_that_was_told_to_have_no_time()
    {
        using var outbound = Once(o => o.Budget!.Total = TimeSpan.FromMilliseconds(8));
        outbound.Server.Answers(_ => new Reply(503, ("No-Retry", "1")));

        using HttpResponseMessage response = await outbound.GetAsync();

        outbound.Server.Arrivals.Single().Header("Timeout-Budget").Should().Be("0");
        Counts(outbound).Should().Be((0, 0));
    }

    [Fact]
    public async Task A_handler_that_returns_nothing_costs_no_probe()
    {
        using var outbound = Once(o => o.CircuitBreaker!.ConsecutiveFailures = 1);
        outbound.Server.Answers(500);
        using HttpResponseMessage first = await outbound.GetAsync();
        outbound.Time.Advance(TimeSpan.FromMinutes(10));
        using var broken = new HttpMessageInvoker(new OutboundPolicyHandler(outbound.Policy) { InnerHandler = new Nothing() });

        await FluentActions.Awaiting(() => broken.SendAsync(Outbound.Request(), default)).Should().ThrowAsync<InvalidOperationException>();
        outbound.Server.Answers(200);
        using HttpResponseMessage probe = await outbound.GetAsync();

        outbound.Policy.CircuitBreakers.For(Payments).State.Should().Be(CircuitState.Closed);
    }

    [Fact]
    public async Task An_open_circuit_of_another_policy_below_is_not_ours()
    {
        using var outbound = new Outbound();
        using var ambient = TimeoutBudget.Start(TimeSpan.FromMinutes(1), "page", outbound.Time);
        outbound.Server.Answer = static (_, _, _) => throw new CircuitOpenException("auth", CircuitState.Open, TimeSpan.FromSeconds(1));

        await FluentActions.Awaiting(() => outbound.GetAsync()).Should().ThrowAsync<CircuitOpenException>();

        ambient.RetriesExhausted.Should().BeFalse();
        outbound.Logs.Texts.Last().Should().Contain("failed after 1 attempts");
    }

    [Fact]
    public async Task An_open_circuit_refuses_without_a_send()
    {
        using var outbound = Once();
        outbound.Policy.CircuitBreakers.For(Payments).Isolate();

        Func<Task> call = () => outbound.GetAsync();

        CircuitOpenException refused = (await call.Should().ThrowAsync<CircuitOpenException>()).Which;
        (refused.Name, refused.State).Should().Be(("shop[http://payments:80]", CircuitState.Isolated));
        outbound.Server.Count.Should().Be(0);
        outbound.Logs.Texts.Last().Should().Contain("circuit-open after 0 attempts");
    }

    [Fact]
    public async Task It_opens_stays_open_for_its_break_and_closes_after_a_good_probe()
    {
        using var outbound = Once(o => o.CircuitBreaker!.ConsecutiveFailures = 2);
        outbound.Server.Answers(503, 503, 200);

        using HttpResponseMessage first = await outbound.GetAsync();
        using HttpResponseMessage second = await outbound.GetAsync();
        CircuitOpenException refused = (await FluentActions.Awaiting(() => outbound.GetAsync()).Should().ThrowAsync<CircuitOpenException>()).Which;
        outbound.Time.Advance(refused.RetryAfter);
        using HttpResponseMessage probe = await outbound.GetAsync();

        probe.StatusCode.Should().Be(HttpStatusCode.OK);
        refused.RetryAfter.Should().Be(TimeSpan.FromSeconds(5));
        outbound.Policy.CircuitBreakers.For(Payments).State.Should().Be(CircuitState.Closed);
        outbound.Server.Count.Should().Be(3);
    }

    [Fact]
    public async Task Each_authority_has_a_circuit_of_its_own()
    {
        using var outbound = Once(o => o.CircuitBreaker!.ConsecutiveFailures = 1);
        outbound.Server.Answer = (_, request, _) => Task.FromResult<HttpResponseMessage>(new Reply(request.RequestUri!.Host == "bad" ? 503 : 200));

        using HttpResponseMessage bad = await outbound.GetAsync("http://bad/a");
        foreach (string url in new[] { "http://good/", "http://bad:81/", "https://bad:80/" })
        {
            using HttpResponseMessage other = await outbound.GetAsync(url);
        }

        await FluentActions.Awaiting(() => outbound.GetAsync("HTTP://BAD:80/b?c")).Should().ThrowAsync<CircuitOpenException>();
        outbound.Policy.CircuitBreakers.Snapshot().Should().HaveCount(4);
    }

    [Fact]
    public async Task There_are_never_more_circuits_than_the_capacity()
    {
        using var outbound = Once(o => o.CircuitBreaker!.Capacity = 10);

        for (int host = 0; host < 500; host++)
        {
            using HttpResponseMessage response = await outbound.GetAsync($"http://host{host}/");
        }

        outbound.Policy.CircuitBreakers.Snapshot().Should().HaveCount(10);
    }

    [Fact]
    public async Task When_the_circuit_opens_meanwhile_the_answer_of_the_attempt_before_stands()
    {
        using var outbound = new Outbound(o => o.CircuitBreaker!.ConsecutiveFailures = 2);
        outbound.Server.Answers(502, 503);

        using HttpResponseMessage response = await outbound.GetAsync();

        response.StatusCode.Should().Be(HttpStatusCode.ServiceUnavailable);
        outbound.Server.Replies.Select(reply => reply.IsDisposed).Should().Equal(true, false);
        outbound.Server.Count.Should().Be(2);
    }

    [Fact]
    public async Task When_the_circuit_opens_meanwhile_the_exception_of_the_attempt_before_stands()
    {
        using var outbound = new Outbound(o => o.CircuitBreaker!.ConsecutiveFailures = 1);
        outbound.Server.Answer = (_, _, _) => throw new HttpRequestException(HttpRequestError.ConnectionError, "mine");

        Func<Task> call = () => outbound.GetAsync();

        (await call.Should().ThrowAsync<HttpRequestException>()).Which.Message.Should().Be("mine");
        outbound.Server.Count.Should().Be(1);
    }

    [Fact]
    public async Task Without_the_circuit_part_nothing_is_refused()
    {
        using var outbound = Once(o => o.CircuitBreaker = null);
        outbound.Server.Answers(503);

        for (int call = 0; call < 100; call++)
        {
            using HttpResponseMessage response = await outbound.GetAsync();
        }

        outbound.Server.Count.Should().Be(100);
    }

    [Fact]
    public async Task A_disposed_policy_fails_new_calls_through_the_task_and_lets_running_ones_end()
    {
        using var outbound = new Outbound();
        var answer = new TaskCompletionSource<HttpResponseMessage>();
        outbound.Server.Answer = (_, _, _) => answer.Task;

        Task<HttpResponseMessage> running = outbound.GetAsync();
        outbound.Policy.Dispose();
        Task<HttpResponseMessage> late = outbound.GetAsync();
        answer.SetResult(new Reply(200));

        (await running.Soon()).StatusCode.Should().Be(HttpStatusCode.OK);
        await FluentActions.Awaiting(() => late).Should().ThrowAsync<ObjectDisposedException>();
    }

    private static Outbound Once(Action<OutboundPolicyOptions>? set = null) => new(o =>
    {
        o.Retry = null;
        o.CircuitBreaker!.BreakJitter = 0;
        set?.Invoke(o);
    });

    private static (long Successes, long Failures) Counts(Outbound outbound)
    {
        CircuitGroupEntry<HttpAuthority> entry = outbound.Policy.CircuitBreakers.Snapshot().Should().ContainSingle().Subject;
        entry.Key.Should().Be(Payments);
        return (entry.Successes, entry.Failures);
    }

    private sealed class Nothing : HttpMessageHandler
    {
        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken) => Task.FromResult<HttpResponseMessage>(null!);
    }
}
