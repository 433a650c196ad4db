using System.Net;
using System.Net.Http.Headers;
using System.Text.RegularExpressions;

namespace Backend.Toolkit.Http.Tests;

/// <summary>What one request says about itself, and what each attempt looks like on the other side.</summary>
public sealed partial class RequestTests
{
    [Theory]
    [InlineData("POST")]
    [InlineData("PATCH")]
    public async Task A_key_of_the_caller_makes_a_request_safe_and_goes_along_as_it_is(string method)
    {
        using var outbound = new Outbound();
        outbound.Server.Answers(503);

        using HttpResponseMessage response = await outbound.SendAsync(Outbound.Request(method, null, ("Idempotency-Key", "mine, and odd")));

        outbound.Server.Arrivals.Select(arrival => arrival.Header("Idempotency-Key")).Should().Equal("mine, and odd", "mine, and odd", "mine, and odd");
    }

    [Fact]
    public async Task A_message_that_somebody_above_sends_again_begins_anew()
    {
        using var outbound = new Outbound(o => o.RetryBudget = null);
        outbound.Server.Answers(503);
        using HttpRequestMessage request = Outbound.Request("GET");

        using HttpResponseMessage first = await outbound.SendAsync(request);
        using HttpResponseMessage second = await outbound.SendAsync(request);

        outbound.Server.Arrivals.Select(arrival => arrival.Header("Retry-Attempt")).Should().Equal(null, "2", "3", null, "2", "3");
    }

    [Fact]
    public async Task An_empty_key_is_none()
    {
        using var outbound = new Outbound();
        outbound.Server.Answers(503);

        using HttpResponseMessage response = await outbound.SendAsync(Outbound.Request("POST", null, ("Idempotency-Key", "")));

        outbound.Server.Count.Should().Be(1);
    }

    [Theory]
    [InlineData("POST")]
    [InlineData("PATCH")]
    public async Task When_told_to_it_attaches_a_key_that_stays_the_same_on_each_attempt(string method)
    {
        using var outbound = new Outbound(o => o.AttachIdempotencyKey = true);
        outbound.Server.Answers(503);

        using HttpResponseMessage response = await outbound.SendAsync(Outbound.Request(method));

        string[] keys = [.. outbound.Server.Arrivals.Select(arrival => arrival.Header("Idempotency-Key")!)];
        keys.Should().HaveCount(3);
        keys.Distinct().Should().ContainSingle().Which.Should().MatchRegex(KeyPattern());
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_key_is_attached_whoever_says_that_the_request_is_safe(bool safe)
    {
        using var outbound = new Outbound(o => o.AttachIdempotencyKey = true);
        outbound.Server.Answers(503);
        using HttpRequestMessage request = Outbound.Request("POST");
        request.Options.Set(OutboundRequest.SafeToRetry, safe);

        using HttpResponseMessage response = await outbound.SendAsync(request);

        outbound.Server.Arrivals.Should().HaveCount(safe ? 3 : 1).And.OnlyContain(arrival => arrival.Header("Idempotency-Key") != null);
    }

    [Fact]
    public async Task An_attached_key_leaves_an_existing_one_alone_and_other_methods_without()
    {
        using var outbound = new Outbound(o => o.AttachIdempotencyKey = true);

        using HttpResponseMessage first = await outbound.SendAsync(Outbound.Request("POST", null, ("Idempotency-Key", "\"mine\"")));
        using HttpResponseMessage second = await outbound.SendAsync(Outbound.Request("PUT"));

        outbound.Server.Arrivals.Select(arrival => arrival.Header("Idempotency-Key")).Should().Equal("\"mine\"", null);
    }

    [Fact]
    public void Attached_keys_are_all_different_also_on_several_threads()
    {
        string[][] keys = new string[4][];

        Parallel.For(0, 4, thread => keys[thread] = [.. Enumerable.Range(0, 1_000).Select(_ => Wire.NewIdempotencyKey())]);

        keys.SelectMany(each => each).Should().OnlyHaveUniqueItems();
        keys.SelectMany(each => each).Should().OnlyContain(key => KeyPattern().IsMatch(key));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(7)]
    public async Task A_request_may_bring_its_own_number_of_attempts(int attempts)
    {
        using var outbound = new Outbound(o => o.RetryBudget = null);
        outbound.Server.Answers(503);
        HttpRequestMessage request = Outbound.Request();
        request.Options.Set(OutboundRequest.MaxAttempts, attempts);

        using HttpResponseMessage response = await outbound.SendAsync(request);

        outbound.Server.Count.Should().Be(attempts);
    }

    [Theory]
    [InlineData(true, 1)]
    [InlineData(false, 3)]
    public async Task A_request_may_forbid_retries(bool noRetry, int sent)
    {
        using var outbound = new Outbound();
        outbound.Server.Answers(503);
        HttpRequestMessage request = Outbound.Request();
        request.Options.Set(OutboundRequest.NoRetry, noRetry);
        request.Options.Set(OutboundRequest.MaxAttempts, 3);

        using HttpResponseMessage response = await outbound.SendAsync(request);

        outbound.Server.Count.Should().Be(sent);
    }

    [Theory]
    [InlineData("POST", true, 3)]
    [InlineData("LOCK", true, 3)]
    [InlineData("GET", false, 1)]
    public async Task A_request_knows_best_whether_it_is_safe(string method, bool safe, int sent)
    {
        using var outbound = new Outbound();
        outbound.Server.Answers(503);
        HttpRequestMessage request = Outbound.Request(method);
        request.Options.Set(OutboundRequest.SafeToRetry, safe);

        using HttpResponseMessage response = await outbound.SendAsync(request);

        outbound.Server.Count.Should().Be(sent);
    }

    [Fact]
    public async Task A_request_may_bring_its_own_total()
    {
        using var outbound = new Outbound();
        HttpRequestMessage request = Outbound.Request();
        request.Options.Set(OutboundRequest.Total, TimeSpan.FromSeconds(3));

        using HttpResponseMessage response = await outbound.SendAsync(request);

        outbound.Server.Arrivals.Should().ContainSingle().Which.Header("Timeout-Budget").Should().Be("2990");
    }

    [Fact]
    public async Task Values_out_of_range_fail_the_call_through_the_task()
    {
        using var outbound = new Outbound();
        Action<HttpRequestOptions>[] bad =
        [
            options => options.Set(OutboundRequest.MaxAttempts, 0), options => options.Set(OutboundRequest.MaxAttempts, 101), options => options.Set(OutboundRequest.MaxAttempts, -1),
            options => options.Set(OutboundRequest.Total, TimeSpan.FromTicks(-1)), options => options.Set(OutboundRequest.Total, TimeSpan.MinValue),
        ];
        foreach (Action<HttpRequestOptions> set in bad)
        {
            HttpRequestMessage request = Outbound.Request();
            set(request.Options);

            Task<HttpResponseMessage> call = outbound.SendAsync(request);

            call.IsFaulted.Should().BeTrue();
            (await FluentActions.Awaiting(() => call).Should().ThrowAsync<ArgumentOutOfRangeException>()).Which.ParamName.Should().StartWith("Backend.Toolkit.Http.");
        }

        outbound.Server.Count.Should().Be(0);
    }

    [Fact]
    public async Task The_limits_of_the_ranges_are_good()
    {
        using var outbound = new Outbound();
        foreach ((TimeSpan total, int attempts) in new[] { (Timeout.InfiniteTimeSpan, 1), (TimeSpan.MaxValue, 100), (TimeSpan.FromTicks(1), 2) })
        {
            HttpRequestMessage request = Outbound.Request();
            request.Options.Set(OutboundRequest.Total, total);
            request.Options.Set(OutboundRequest.MaxAttempts, attempts);

            using HttpResponseMessage response = await outbound.SendAsync(request);

            response.StatusCode.Should().Be(HttpStatusCode.OK);
        }
    }

    [Fact]
    public async Task Each_attempt_carries_one_value_of_each_header()
    {
        using var outbound = new Outbound(o => o.Retry!.MaxAttempts = 4);
        outbound.Server.Answers(503);

        using HttpResponseMessage response = await outbound.SendAsync(Outbound.Request("GET", null, ("X-Own", "a"), ("Accept", "text/plain")));

        outbound.Server.Arrivals.Select(arrival => arrival.Header("Retry-Attempt")).Should().Equal(null, "2", "3", "4");
        outbound.Server.Arrivals.Select(arrival => arrival.Header("Timeout-Budget")).Should().AllBe("9990");
        outbound.Server.Arrivals.Select(arrival => (arrival.Header("X-Own"), arrival.Header("Accept"))).Should().AllBeEquivalentTo(("a", "text/plain"));
    }

    [Fact]
    public async Task Values_of_the_application_in_our_headers_are_replaced()
    {
        using var outbound = new Outbound();
        outbound.Server.Answers(503, 200);

        using HttpResponseMessage response = await outbound.SendAsync(
            Outbound.Request("GET", null, ("Timeout-Budget", "123456"), ("Timeout-Budget", "7"), ("Retry-Attempt", "x"), ("Retry-Attempt", "y")));

        outbound.Server.Arrivals.Select(arrival => arrival.Header("Timeout-Budget")).Should().Equal("9990", "9990");
        outbound.Server.Arrivals[1].Header("Retry-Attempt").Should().Be("2");
    }

    [Fact]
    public async Task What_a_redirect_changed_is_put_back_before_the_next_attempt()
    {
        using var outbound = new Outbound();
        outbound.Server.Answer = (number, request, _) =>
        {
            request.RequestUri = new Uri("http://elsewhere/landing");
            request.Method = HttpMethod.Get;
            request.Content = null;
            request.Headers.Authorization = null;
            return Task.FromResult<HttpResponseMessage>(new Reply(number == 1 ? 503 : 200));
        };
        HttpRequestMessage request = Outbound.Request("POST", new StringContent("body"), ("Idempotency-Key", "\"k\""));
        request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", "secret");

        using HttpResponseMessage response = await outbound.SendAsync(request);

        Arrival again = outbound.Server.Arrivals[1];
        (again.Method, again.Uri.AbsoluteUri, again.Header("Authorization")).Should().Be((HttpMethod.Post, Outbound.Url, "Bearer secret"));
        again.Body.Should().Equal("body"u8.ToArray());
    }

    [Fact]
    public async Task A_fresh_authorization_set_by_a_handler_below_is_kept()
    {
        using var outbound = new Outbound();
        outbound.Server.Answer = (number, request, _) =>
        {
            request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", "renewed");
            return Task.FromResult<HttpResponseMessage>(new Reply(number == 1 ? 503 : 200));
        };
        HttpRequestMessage request = Outbound.Request("GET", null, ("Authorization", "Bearer old"));

        using HttpResponseMessage response = await outbound.SendAsync(request);

        outbound.Server.Arrivals.Select(arrival => arrival.Header("Authorization")).Should().Equal("Bearer old", "Bearer renewed");
    }

    [Fact]
    public void Sending_synchronously_is_refused()
    {
        using var policy = new OutboundPolicy(Outbound.Options());
        using var invoker = new HttpMessageInvoker(new OutboundPolicyHandler(policy) { InnerHandler = new Server() });

        Action send = () => invoker.Send(Outbound.Request(), default);

        send.Should().Throw<NotSupportedException>().WithMessage("*SendAsync*");
    }

    [Fact]
    public void An_authority_is_scheme_host_and_port()
    {
        var authority = HttpAuthority.Of(new Uri("HTTPS://Payments/orders?a=b"));

        authority.Should().Be(new HttpAuthority("https", "payments", 443));
        authority.ToString().Should().Be("https://payments:443");
        authority.Should().NotBe(new HttpAuthority("http", "payments", 443)).And.NotBe(new HttpAuthority("https", "payments", 444));
    }

    [GeneratedRegex("^\"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\"$")]
    private static partial Regex KeyPattern();
}
