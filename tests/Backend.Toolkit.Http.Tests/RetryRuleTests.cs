using System.Net;
using System.Net.Sockets;
using Backend.Toolkit.RetryPolicies;
using Backend.Toolkit.TimeoutBudgets;

namespace Backend.Toolkit.Http.Tests;

/// <summary>What is retried, and what is not.</summary>
public sealed class RetryRuleTests
{
    [Theory]
    [InlineData("GET", 3)]
    [InlineData("HEAD", 3)]
    [InlineData("OPTIONS", 3)]
    [InlineData("TRACE", 3)]
    [InlineData("PUT", 3)]
    [InlineData("DELETE", 3)]
    [InlineData("POST", 1)]
    [InlineData("PATCH", 1)]
    [InlineData("CONNECT", 1)]
    [InlineData("PROPFIND", 1)]
    [InlineData("get", 3)]
    [InlineData("post", 1)]
    public async Task Only_methods_that_are_idempotent_are_retried(string method, int sent)
    {
        using var outbound = new Outbound();
        outbound.Server.Answers(503);

        using HttpResponseMessage response = await outbound.SendAsync(Outbound.Request(method));

        response.StatusCode.Should().Be(HttpStatusCode.ServiceUnavailable);
        outbound.Server.Count.Should().Be(sent);
    }

    [Theory]
    [InlineData(408)]
    [InlineData(425)]
    [InlineData(429)]
    [InlineData(500)]
    [InlineData(502)]
    [InlineData(503)]
    [InlineData(504)]
    public async Task A_status_that_may_pass_is_retried(int status)
    {
        using var outbound = new Outbound();
        outbound.Server.Answers(status, 200);

        using HttpResponseMessage response = await outbound.GetAsync();

        response.StatusCode.Should().Be(HttpStatusCode.OK);
        outbound.Server.Count.Should().Be(2);
    }

    [Fact]
    public async Task No_other_status_is_retried()
    {
        int[] retried = [408, 425, 429, 500, 502, 503, 504];
        using var outbound = new Outbound(o => o.CircuitBreaker = null);
        foreach (int status in Enumerable.Range(200, 400).Except(retried))
        {
            int before = outbound.Server.Count;
            outbound.Server.Answers(status);

            using HttpResponseMessage response = await outbound.GetAsync();

            ((int)response.StatusCode).Should().Be(status);
            (outbound.Server.Count - before).Should().Be(1, "{0} stays as it is", status);
        }
    }

    [Theory]
    [InlineData(HttpRequestError.Unknown, 3)]
    [InlineData(HttpRequestError.NameResolutionError, 3)]
    [InlineData(HttpRequestError.ConnectionError, 3)]
    [InlineData(HttpRequestError.HttpProtocolError, 3)]
    [InlineData(HttpRequestError.ResponseEnded, 3)]
    [InlineData(HttpRequestError.InvalidResponse, 3)]
    [InlineData(HttpRequestError.ProxyTunnelError, 3)]
    [InlineData(HttpRequestError.SecureConnectionError, 1)]
    [InlineData(HttpRequestError.UserAuthenticationError, 1)]
    [InlineData(HttpRequestError.VersionNegotiationError, 1)]
    [InlineData(HttpRequestError.ExtendedConnectNotSupported, 1)]
    [InlineData(HttpRequestError.ConfigurationLimitExceeded, 1)]
    public async Task A_connection_that_fails_is_retried_but_not_what_stays_wrong(HttpRequestError error, int sent)
    {
        var thrown = new HttpRequestException(error, "broken");
        using var outbound = new Outbound();
        outbound.Server.Answer = (_, _, _) => Task.FromException<HttpResponseMessage>(thrown);

        Func<Task> call = () => outbound.GetAsync();

        (await call.Should().ThrowAsync<HttpRequestException>()).Which.Should().BeSameAs(thrown);
        outbound.Server.Count.Should().Be(sent);
    }

    [Fact]
    public async Task Broken_streams_and_sockets_are_retried_and_mistakes_of_the_program_are_not()
    {
        (Exception Thrown, int Sent)[] cases =
        [
            (new IOException("cut"), 3), (new SocketException((int)SocketError.ConnectionReset), 3), (new InvalidOperationException("bug"), 1), (new NotSupportedException(), 1),
        ];
        foreach ((Exception thrown, int sent) in cases)
        {
            using var outbound = new Outbound();
            outbound.Server.Answer = (_, _, _) => throw thrown;

            Func<Task> call = () => outbound.GetAsync();

            (await call.Should().ThrowAsync<Exception>()).Which.Should().BeSameAs(thrown);
            outbound.Server.Count.Should().Be(sent);
        }
    }

    [Fact]
    public async Task The_application_may_judge_responses_and_exceptions_itself()
    {
        using var outbound = new Outbound(o =>
        {
            o.IsRetryable = response => response.StatusCode == HttpStatusCode.NotFound;
            o.Retry!.ShouldRetry = exception => exception is InvalidOperationException;
        });
        outbound.Server.Answer = (number, _, _) => number switch
        {
            1 => Task.FromResult<HttpResponseMessage>(new Reply(404)),
            2 => throw new InvalidOperationException(),
            _ => Task.FromResult<HttpResponseMessage>(new Reply(503)),
        };

        using HttpResponseMessage response = await outbound.GetAsync();

        response.StatusCode.Should().Be(HttpStatusCode.ServiceUnavailable);
        outbound.Server.Count.Should().Be(3);
    }

    [Fact]
    public async Task Attempts_that_all_fail_end_with_the_last_outcome()
    {
        using var outbound = new Outbound(o => o.Retry!.MaxAttempts = 4);
        outbound.Server.Answer = (number, _, _) =>
            number < 4 ? Task.FromResult<HttpResponseMessage>(new Reply(503)) : throw new HttpRequestException(HttpRequestError.ConnectionError, "last");

        Func<Task> call = () => outbound.GetAsync();

        (await call.Should().ThrowAsync<HttpRequestException>()).Which.Message.Should().Be("last");
        outbound.Server.Replies.Should().HaveCount(3).And.OnlyContain(reply => reply.IsDisposed);
    }

    [Fact]
    public async Task A_superseded_response_is_disposed_and_the_last_one_is_not()
    {
        using var outbound = new Outbound();
        outbound.Server.Answers(503, 500, 503);

        using HttpResponseMessage response = await outbound.GetAsync();

        outbound.Server.Replies.Select(reply => reply.IsDisposed).Should().Equal(true, true, false);
        response.Should().BeSameAs(outbound.Server.Replies[2]);
    }

    [Fact]
    public async Task An_exception_after_a_response_disposes_that_response()
    {
        using var outbound = new Outbound();
        outbound.Server.Answer = (number, _, _) => number == 1 ? Task.FromResult<HttpResponseMessage>(new Reply(503)) : throw new InvalidOperationException();

        Func<Task> call = () => outbound.GetAsync();

        await call.Should().ThrowAsync<InvalidOperationException>();
        outbound.Server.Replies.Should().ContainSingle().Which.IsDisposed.Should().BeTrue();
    }

    [Fact]
    public async Task An_empty_retry_budget_ends_the_retries_of_all_calls()
    {
        using var outbound = new Outbound(o =>
        {
            o.CircuitBreaker = null;
            o.RetryBudget!.MaxTokens = 4;
        });
        outbound.Server.Answers(503);

        for (int call = 0; call < 5; call++)
        {
            using HttpResponseMessage response = await outbound.GetAsync();
        }

        // 4 tokens, of which more than half must be left: the second failure is one too many.
        outbound.Server.Count.Should().Be(2 + 4);
        outbound.Policy.RetryBudget.Tokens.Should().Be(0);
    }

    [Fact]
    public async Task Without_a_retry_budget_every_call_has_all_its_attempts()
    {
        using var outbound = new Outbound(o => (o.CircuitBreaker, o.RetryBudget) = (null, null));
        outbound.Server.Answers(503);

        for (int call = 0; call < 20; call++)
        {
            using HttpResponseMessage response = await outbound.GetAsync();
        }

        outbound.Server.Count.Should().Be(60);
        outbound.Policy.RetryBudget.Should().BeSameAs(RetryBudget.Unlimited);
    }

    [Fact]
    public async Task A_shared_retry_budget_stands_in_for_the_policys_own()
    {
        var shared = new RetryBudget(new RetryBudgetOptions { Name = "shared", MaxTokens = 1 });
        using var outbound = new Outbound(o => o.Retry!.Budget = shared);
        outbound.Server.Answers(503);

        using HttpResponseMessage response = await outbound.GetAsync();

        outbound.Policy.RetryBudget.Should().BeSameAs(shared);
        outbound.Server.Count.Should().Be(1);
    }

    [Fact]
    public async Task Without_the_retry_part_nothing_is_retried()
    {
        using var outbound = new Outbound(o => o.Retry = null);
        outbound.Server.Answers(503);

        using HttpResponseMessage response = await outbound.GetAsync();

        outbound.Server.Count.Should().Be(1);
        outbound.Logs.Texts.Should().ContainSingle().Which.Should().Contain("not-retried after 1 attempts");
    }

    [Fact]
    public async Task A_request_is_never_sent_while_it_is_still_being_sent()
    {
        var late = new TaskCompletionSource<HttpResponseMessage>();
        using var outbound = new Outbound(o => o.Attempt!.Total = TimeSpan.FromSeconds(1));
        outbound.Server.Answer = (_, _, _) => late.Task;

        Task<HttpResponseMessage> call = outbound.GetAsync();
        outbound.Time.Advance(TimeSpan.FromSeconds(5));
        outbound.Time.Advance(TimeSpan.FromSeconds(60));
        int sent = outbound.Server.Count;
        bool over = call.IsCompleted;
        late.SetResult(new Reply(200));

        (await call.Soon()).StatusCode.Should().Be(HttpStatusCode.OK, "an answer is an answer, however late");
        (sent, over).Should().Be((1, false), "the handler ignores its token, so it must be waited for");
        outbound.Server.MostAtTheSameTime.Should().Be(1);
    }

    [Fact]
    public async Task Attempts_that_time_out_never_overlap()
    {
        using var outbound = new Outbound(o => o.Attempt!.Total = TimeSpan.FromSeconds(1));
        outbound.Server.Hangs();

        Task<HttpResponseMessage> call = outbound.GetAsync();
        for (int sent = 1; sent <= 3; sent++)
        {
            Eventually.BeTrue(() => outbound.Server.Count == sent, $"attempt {sent} is sent");
            outbound.Time.Advance(TimeSpan.FromSeconds(1));
        }

        (await FluentActions.Awaiting(() => call.Soon()).Should().ThrowAsync<TimeoutBudgetExceededException>()).Which.Name.Should().Be("shop-attempt");
        outbound.Server.MostAtTheSameTime.Should().Be(1);
    }
}
