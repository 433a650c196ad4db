using System.Globalization;
using System.Net;
using Backend.Toolkit.RetryPolicies;

namespace Backend.Toolkit.Http.Tests;

/// <summary>When the server says when to come back.</summary>
public sealed class RetryAfterTests
{
    private static readonly TimeSpan Second = TimeSpan.FromSeconds(1);

    [Theory]
    [InlineData("7", 7)]
    [InlineData("0", 0)]
    [InlineData(" 3 ", 3)]
    [InlineData("007", 7)]
    public async Task Seconds_are_waited_exactly(string value, int seconds)
    {
        using var outbound = Patient(value);

        Task<HttpResponseMessage> call = outbound.GetAsync();
        if (seconds > 0)
        {
            outbound.Time.Advance(seconds * Second - TimeSpan.FromTicks(TimeSpan.TicksPerMillisecond));
            outbound.Server.Count.Should().Be(1, "not a millisecond too early");
            outbound.Time.Advance(TimeSpan.FromMilliseconds(1));
        }

        (await call.Soon()).StatusCode.Should().Be(HttpStatusCode.OK);
    }

    [Fact]
    public async Task A_date_counts_from_the_date_of_the_response()
    {
        var server = new DateTimeOffset(1999, 12, 31, 23, 59, 55, TimeSpan.Zero);
        using var outbound = Patient(Date(server + 5 * Second), ("Date", Date(server)));
        outbound.Time.PassesAtOnce = true;

        using HttpResponseMessage response = await outbound.GetAsync();

        outbound.Time.Waits.Should().Equal(5 * Second);
    }

    [Theory]
    [InlineData(null)]
    [InlineData("garbage")]
    public async Task Without_a_date_of_the_response_it_counts_from_this_machines_clock(string? date)
    {
        DateTimeOffset now = new WaitTime().GetUtcNow();
        using var outbound = date is null ? Patient(Date(now + 4 * Second)) : Patient(Date(now + 4 * Second), ("Date", date));
        outbound.Time.PassesAtOnce = true;

        using HttpResponseMessage response = await outbound.GetAsync();

        outbound.Time.Waits.Should().Equal(4 * Second);
    }

    [Fact]
    public async Task A_date_that_is_past_is_at_once()
    {
        using var outbound = Patient("Sun, 06 Nov 1994 08:49:37 GMT");

        using HttpResponseMessage response = await outbound.GetAsync();

        response.StatusCode.Should().Be(HttpStatusCode.OK);
        outbound.Time.Waits.Should().BeEmpty();
    }

    [Theory]
    [InlineData(429, "60")]
    [InlineData(503, "2")]
    [InlineData(429, "99999999999999999999")]
    [InlineData(429, "2147483648")]
    [InlineData(429, "Fri, 31 Dec 9999 23:59:59 GMT")]
    public async Task More_than_the_budget_has_left_hands_the_answer_on_at_once(int status, string value)
    {
        using var outbound = Patient(value, status: status, set: o => o.Budget!.Total = 2 * Second);

        Task<HttpResponseMessage> call = outbound.GetAsync();

        call.IsCompletedSuccessfully.Should().BeTrue("no clock was advanced");
        using HttpResponseMessage response = await call;
        ((int)response.StatusCode).Should().Be(status);
        response.Headers.NonValidated["Retry-After"].ToString().Should().Be(value);
        outbound.Server.Replies.Should().ContainSingle().Which.IsDisposed.Should().BeFalse();
        outbound.Time.Waits.Should().BeEmpty();
    }

    [Theory]
    [InlineData(5, 2)]
    [InlineData(6, 1)]
    public async Task More_than_MaxDelayHint_hands_the_answer_on_rather_than_asking_too_early(int seconds, int sent)
    {
        using var outbound = Patient(seconds.ToString(CultureInfo.InvariantCulture), set: o => o.Retry!.MaxDelayHint = 5 * Second);
        outbound.Time.PassesAtOnce = true;

        using HttpResponseMessage response = await outbound.GetAsync();

        outbound.Server.Count.Should().Be(sent);
        outbound.Time.Waits.Should().Equal(sent == 2 ? [5 * Second] : []);
    }

    [Theory]
    [InlineData("-1")]
    [InlineData("1.5")]
    [InlineData("soon")]
    [InlineData("")]
    [InlineData("5, 6")]
    [InlineData("5s")]
    [InlineData("+5")]
    [InlineData("0x10")]
    public async Task Garbage_is_ignored_and_the_backoff_holds(string value)
    {
        using var outbound = Patient(value, set: o => (o.Retry!.BaseDelay, o.Retry.Jitter) = (Second, RetryJitter.None));
        outbound.Time.PassesAtOnce = true;

        using HttpResponseMessage response = await outbound.GetAsync();

        response.StatusCode.Should().Be(HttpStatusCode.OK);
        outbound.Time.Waits.Should().Equal(Second);
    }

    [Fact]
    public async Task A_wait_that_takes_longer_than_it_should_leaves_the_answer_that_there_is()
    {
        using var outbound = new Outbound(o => o.Budget!.Total = TimeSpan.FromSeconds(10));
        outbound.Server.Answers(_ => new Reply(503, ("Retry-After", "5")));

        Task<HttpResponseMessage> call = outbound.GetAsync();
        outbound.Time.Advance(TimeSpan.FromSeconds(60));
        using HttpResponseMessage response = await call.Soon();

        ((int)response.StatusCode).Should().Be(503);
        ((Reply)response).IsDisposed.Should().BeFalse();
        outbound.Server.Count.Should().Be(1);
    }

    [Fact]
    public async Task Several_headers_are_garbage()
    {
        using var outbound = Patient("5", ("Retry-After", "5"), o => (o.Retry!.BaseDelay, o.Retry.Jitter) = (Second, RetryJitter.None));
        outbound.Time.PassesAtOnce = true;

        using HttpResponseMessage response = await outbound.GetAsync();

        outbound.Time.Waits.Should().Equal(Second);
    }

    [Fact]
    public async Task A_hint_belongs_to_its_response_only()
    {
        using var outbound = new Outbound(o => (o.Retry!.BaseDelay, o.Retry.Jitter, o.Retry.Backoff) = (Second, RetryJitter.None, RetryBackoff.Constant));
        outbound.Time.PassesAtOnce = true;
        outbound.Server.Answer = (number, _, _) => number switch
        {
            1 => Task.FromResult<HttpResponseMessage>(new Reply(503, ("Retry-After", "9"))),
            2 => throw new HttpRequestException(HttpRequestError.ConnectionError),
            _ => Task.FromResult<HttpResponseMessage>(new Reply(200)),
        };

        using HttpResponseMessage response = await outbound.GetAsync();

        outbound.Time.Waits.Should().Equal(9 * Second, Second);
    }

    [Fact]
    public async Task A_response_that_is_not_retried_may_carry_it_in_vain()
    {
        using var outbound = Patient("1", status: 404);

        using HttpResponseMessage response = await outbound.GetAsync();

        response.StatusCode.Should().Be(HttpStatusCode.NotFound);
        outbound.Time.Waits.Should().BeEmpty();
    }

    private static string Date(DateTimeOffset date) => date.ToString("r", CultureInfo.InvariantCulture);

    /// <summary>The first answer carries the header, the second is good.</summary>
    private static Outbound Patient(string retryAfter, (string, string)? other = null, Action<OutboundPolicyOptions>? set = null, int status = 503)
    {
        var outbound = new Outbound(set);
        outbound.Server.Answers(number => number > 1 ? new Reply(200) : other is { } header
            ? new Reply(status, ("Retry-After", retryAfter), header)
            : new Reply(status, ("Retry-After", retryAfter)));
        return outbound;
    }
}
