using System.Net;
using Backend.Toolkit.CircuitBreakers;
using Backend.Toolkit.TimeoutBudgets;

namespace Backend.Toolkit.Http.Tests;

/// <summary>Layers that do not multiply: No-Retry on the wire, RetriesExhausted inside.</summary>
public sealed class NoRetryTests
{
    [Theory]
    [InlineData(502, "1", 1)]
    [InlineData(503, "1", 1)]
    [InlineData(504, "1", 1)]
    [InlineData(500, "1", 3)]
    [InlineData(408, "1", 3)]
    [InlineData(429, "1", 3)]
    [InlineData(503, "0", 3)]
    [InlineData(503, "true", 3)]
    [InlineData(503, "01", 3)]
    [InlineData(503, "1, 1", 3)]
    [InlineData(503, "", 3)]
    [InlineData(503, "\u0661", 3)]
    public async Task Only_a_one_on_a_502_503_or_504_ends_the_call(int status, string value, int sent)
    {
        using var outbound = new Outbound();
        using var ambient = TimeoutBudget.Start(TimeSpan.FromMinutes(1), "page", outbound.Time);
        outbound.Server.Answers(_ => new Reply(status, ("No-Retry", value)));

        using HttpResponseMessage response = await outbound.GetAsync();

        ((int)response.StatusCode).Should().Be(status);
        outbound.Server.Count.Should().Be(sent);
        ambient.RetriesExhausted.Should().BeTrue();
    }

    [Fact]
    public async Task Two_headers_mean_nothing()
    {
        using var outbound = new Outbound();
        outbound.Server.Answers(_ => new Reply(503, ("No-Retry", "1"), ("No-Retry", "1")));

        using HttpResponseMessage response = await outbound.GetAsync();

        outbound.Server.Count.Should().Be(3);
    }

    [Fact]
    public async Task On_a_success_it_means_nothing()
    {
        using var outbound = new Outbound();
        using var ambient = TimeoutBudget.Start(TimeSpan.FromMinutes(1), "page", outbound.Time);
        outbound.Server.Answers(_ => new Reply(200, ("No-Retry", "1")));

        using HttpResponseMessage response = await outbound.GetAsync();

        ambient.RetriesExhausted.Should().BeFalse();
    }

    [Fact]
    public async Task It_wins_over_Retry_After_and_is_told_in_the_log()
    {
        using var outbound = new Outbound();
        outbound.Server.Answers(_ => new Reply(503, ("No-Retry", "1"), ("Retry-After", "1")));

        using HttpResponseMessage response = await outbound.GetAsync().Soon();

        outbound.Server.Count.Should().Be(1);
        outbound.Logs.Texts.Should().ContainSingle().Which.Should().EndWith("The server says that retrying is useless.");
    }

    [Fact]
    public async Task It_is_handed_up_also_by_a_request_that_is_never_retried()
    {
        using var outbound = new Outbound();
        using var ambient = TimeoutBudget.Start(TimeSpan.FromMinutes(1), "page", outbound.Time);
        outbound.Server.Answers(_ => new Reply(503, ("No-Retry", "1")));

        using HttpResponseMessage response = await outbound.SendAsync(Outbound.Request("POST"));

        ambient.RetriesExhausted.Should().BeTrue();
    }

    [Fact]
    public async Task A_single_failure_that_was_not_retried_exhausts_nothing()
    {
        using var outbound = new Outbound();
        using var ambient = TimeoutBudget.Start(TimeSpan.FromMinutes(1), "page", outbound.Time);
        outbound.Server.Answers(503);

        using HttpResponseMessage response = await outbound.SendAsync(Outbound.Request("POST"));

        ambient.RetriesExhausted.Should().BeFalse();
    }

    [Fact]
    public async Task Giving_up_on_exceptions_is_told_too()
    {
        using var outbound = new Outbound();
        using var ambient = TimeoutBudget.Start(TimeSpan.FromMinutes(1), "page", outbound.Time);
        outbound.Server.Answer = (_, _, _) => throw new HttpRequestException(HttpRequestError.ConnectionError);

        await FluentActions.Awaiting(() => outbound.GetAsync()).Should().ThrowAsync<HttpRequestException>();

        ambient.RetriesExhausted.Should().BeTrue();
    }

    [Fact]
    public async Task An_open_circuit_is_told_too()
    {
        using var outbound = new Outbound();
        using var ambient = TimeoutBudget.Start(TimeSpan.FromMinutes(1), "page", outbound.Time);
        outbound.Policy.CircuitBreakers.For(new HttpAuthority("http", "payments", 80)).Isolate();

        await FluentActions.Awaiting(() => outbound.GetAsync()).Should().ThrowAsync<CircuitOpenException>();

        ambient.RetriesExhausted.Should().BeTrue();
    }

    [Fact]
    public async Task A_later_success_of_the_same_authority_and_of_no_other_takes_it_back()
    {
        using var outbound = new Outbound(o => o.CircuitBreaker = null);
        using var ambient = TimeoutBudget.Start(TimeSpan.FromMinutes(1), "page", outbound.Time);
        outbound.Server.Answers(503, 503, 503, 200);

        using HttpResponseMessage failed = await outbound.GetAsync();
        using HttpResponseMessage other = await outbound.GetAsync("http://stock/");
        bool afterOther = ambient.RetriesExhausted;
        using HttpResponseMessage again = await outbound.GetAsync();

        (afterOther, ambient.RetriesExhausted).Should().Be((true, false));
    }

    [Theory]
    [InlineData(404, false)]
    [InlineData(501, true)]
    public async Task Any_answer_takes_it_back_but_one_that_says_that_the_server_fails(int status, bool exhausted)
    {
        using var outbound = new Outbound(o => o.CircuitBreaker = null);
        using var ambient = TimeoutBudget.Start(TimeSpan.FromMinutes(1), "page", outbound.Time);
        outbound.Server.Answers(503, 503, 503, status);

        using HttpResponseMessage failed = await outbound.GetAsync();
        using HttpResponseMessage again = await outbound.GetAsync();

        ambient.RetriesExhausted.Should().Be(exhausted);
    }

    [Fact]
    public async Task It_is_heard_on_a_status_that_the_application_does_not_retry()
    {
        using var outbound = new Outbound(o => o.IsRetryable = response => (int)response.StatusCode == 429);
        using var ambient = TimeoutBudget.Start(TimeSpan.FromMinutes(1), "page", outbound.Time);
        outbound.Server.Answers(_ => new Reply(503, ("No-Retry", "1")));

        using HttpResponseMessage response = await outbound.GetAsync();

        ambient.RetriesExhausted.Should().BeTrue();
    }

    [Theory]
    [InlineData(10_000, 30_000, 9_990, 3)]
    [InlineData(10_000, 30_000, 9_980, 1)]
    [InlineData(10_000, 10_000, 9_990, 1)]
    public async Task An_answer_after_all_the_time_of_its_attempt_is_an_attempt_that_timed_out_while_the_call_has_time(int attempt, int total, int answersAfter, int sent)
    {
        using var outbound = new Outbound(o => (o.Attempt!.Total, o.Budget!.Total) = (TimeSpan.FromMilliseconds(attempt), TimeSpan.FromMilliseconds(total)));
        outbound.Server.Answers(_ =>
        {
            outbound.Time.Advance(TimeSpan.FromMilliseconds(answersAfter));
            return new Reply(504, ("No-Retry", "1"));
        });

        using HttpResponseMessage response = await outbound.GetAsync();

        ((int)response.StatusCode).Should().Be(504);
        outbound.Server.Count.Should().Be(sent);
    }

    [Fact]
    public async Task An_answer_after_all_the_time_of_the_ambient_budget_is_the_last()
    {
        using var outbound = new Outbound();
        using var ambient = TimeoutBudget.Start(TimeSpan.FromSeconds(5), "page", outbound.Time);
        outbound.Server.Answers(_ =>
        {
            outbound.Time.Advance(TimeSpan.FromMilliseconds(4_990));
            return new Reply(504, ("No-Retry", "1"));
        });

        using HttpResponseMessage response = await outbound.GetAsync();

        outbound.Server.Count.Should().Be(1);
    }

    [Fact]
    public async Task Without_an_ambient_budget_there_is_nobody_to_tell()
    {
        using var outbound = new Outbound();
        outbound.Server.Answers(_ => new Reply(503, ("No-Retry", "1")));

        using HttpResponseMessage response = await outbound.GetAsync();

        TimeoutBudget.Current.Should().BeNull();
        response.StatusCode.Should().Be(HttpStatusCode.ServiceUnavailable);
    }
}
