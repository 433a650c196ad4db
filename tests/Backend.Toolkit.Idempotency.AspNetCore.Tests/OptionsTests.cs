using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.Idempotency.AspNetCore.Tests;

public sealed class OptionsTests
{
    public static TheoryData<Action<HttpIdempotencyOptions>, string> Invalid { get; } = new()
    {
        { o => o.Name = " ", "HttpIdempotencyOptions: Name must be not empty, but is ' '." },
        { o => o.HeaderName = "", "http: HeaderName must be the name of a header, but is ''." },
        { o => o.HeaderName = "a b", "http: HeaderName must be the name of a header, but is 'a b'." },
        { o => o.Profile = (IdempotencyProfile)9, "http: Profile must be Draft or Stripe, but is 9." },
        { o => o.DocumentationUrl = "docs", "http: DocumentationUrl must be null or an absolute URI, but is 'docs'." },
        { o => o.MaxRequestBodyBytes = -1, "http: MaxRequestBodyBytes must be between 0 and 2147483647, but is -1." },
        { o => o.MaxBytesInMemory = 1_048_577, "http: MaxBytesInMemory must be between 0 and 1048576, but is 1048577." },
        { o => o.MaxRunTime = TimeSpan.Zero, "http: MaxRunTime must be greater than 0 and at most 1.00:00:00, or Timeout.InfiniteTimeSpan (-00:00:00.0010000), but is 00:00:00." },
        { o => o.ReplayedHeaders.Add("set-cookie"), "http: ReplayedHeaders must be names of headers of the outcome, neither Set-Cookie nor Date nor of the connection, but is 'set-cookie'." },
        { o => o.ReplayedHeaders.Add("a b"), "http: ReplayedHeaders must be names of headers of the outcome, neither Set-Cookie nor Date nor of the connection, but is 'a b'." },
        { o => o.AbandonedStatusCodes.Add(100), "http: a status code must be between 200 and 599, but is 100." },
        { o => o.StoredStatusCodes.Add(409), "http: StoredStatusCodes must be none of AbandonedStatusCodes, but is 409." },
    };

    [Theory]
    [MemberData(nameof(Invalid))]
    public async Task Each_bad_value_stops_the_host_with_a_sentence(Action<HttpIdempotencyOptions> spoil, string sentence)
    {
        Func<Task> start = () => Server.StartAsync(_ => { }, setup => setup.Http = spoil);

        (await start.Should().ThrowAsync<OptionsValidationException>()).Which.Failures.Should().Equal(sentence);
    }

    [Fact]
    public void The_defaults_have_no_problems()
    {
        new HttpIdempotencyOptions().Problems().Should().BeEmpty();
        new HttpIdempotencyOptions { MaxRunTime = Timeout.InfiniteTimeSpan, DocumentationUrl = "https://example.com/docs" }.Problems().Should().BeEmpty();
    }

    [Fact]
    public async Task A_good_reload_holds_from_the_next_request_on_and_a_bad_one_changes_nothing()
    {
        var configuration = new ConfigurationManager();
        configuration["Http:HeaderName"] = "X-Key";
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", () => "ran").RequireIdempotency("orders"),
            setup => setup.Services = services => services.AddHttpIdempotency((o, _) => o.AllowAnonymous = true).AddOptions<HttpIdempotencyOptions>().Bind(configuration.GetSection("Http")));
        Task<Answer> AskAsync(string header) => server.AskAsync("/", key: null, change: request => request.Headers.Add(header, "key-1"));

        Answer bound = await AskAsync("X-Key");
        configuration["Http:HeaderName"] = "X-Other";
        ((IConfigurationRoot)configuration).Reload();
        Answer reloaded = await AskAsync("X-Other");
        configuration["Http:HeaderName"] = "no header";
        ((IConfigurationRoot)configuration).Reload();
        Answer kept = await AskAsync("X-Other");

        (bound.Status, reloaded.IsReplay, kept.IsReplay).Should().Be((200, true, true));
        server.Errors.Should().ContainSingle().Which.Should().Contain("the last valid ones stay in force").And.Contain("HeaderName");
    }

    [Theory]
    [InlineData(null, true)]
    [InlineData("https://example.com/docs", false)]
    public async Task Problems_link_to_the_draft_or_to_your_own_page_and_go_through_the_service(string? page, bool service)
    {
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", () => "ran").RequireIdempotency("orders"),
            setup =>
            {
                setup.Http = o => o.DocumentationUrl = page;
                setup.Services = services =>
                {
                    if (service)
                    {
                        services.AddProblemDetails(o => o.CustomizeProblemDetails = context => context.ProblemDetails.Extensions["own"] = "word");
                    }
                };
            });

        Answer answer = await server.AskAsync("/", key: null);

        answer.Status.Should().Be(400);
        answer.Code.Should().Be("idempotency_key_missing");
        answer.Json.GetProperty("title").GetString().Should().Be("Idempotency-Key is missing");
        answer.Json.GetProperty("status").GetInt32().Should().Be(400);
        answer.Json.GetProperty("type").GetString().Should().Be(page is null
            ? "https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-idempotency-key-header-07#section-2.7" : "https://example.com/docs#idempotency_key_missing");
        answer.Json.TryGetProperty("own", out _).Should().Be(service);
    }

    [Fact]
    public async Task The_profile_of_Stripe_answers_as_its_clients_expect()
    {
        TaskCompletionSource gate = Eventually.Gate();
        int runs = 0;
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", async () =>
            {
                runs++;
                await gate.Task;
                return "ran";
            }).RequireIdempotency("orders"),
            setup => setup.Http = o => o.Profile = IdempotencyProfile.Stripe);
        Task<Answer> first = server.AskAsync("/");
        Eventually.BeTrue(() => Volatile.Read(ref runs) == 1, "it runs");

        Answer inProgress = await server.AskAsync("/");
        Answer mismatch = await server.AskAsync("/", body: "another");
        Answer missing = await server.AskAsync("/", key: null);
        gate.SetResult();
        await first.Soon();
        Answer replay = await server.AskAsync("/");

        Error(inProgress).Should().Be((409, "idempotency_error", "idempotency_key_in_use"));
        inProgress.Headers.Should().ContainKey("Retry-After");
        Error(mismatch).Should().Be((400, "idempotency_error", "idempotency_key_reused"));
        Error(missing).Should().Be((400, "invalid_request_error", "idempotency_key_missing"));
        (replay.Body, replay.IsReplay).Should().Be(("ran", true));

        static (int, string?, string?) Error(Answer answer)
        {
            var error = answer.Json.GetProperty("error");
            error.GetProperty("message").GetString().Should().NotBeEmpty();
            return (answer.Status, error.GetProperty("type").GetString(), error.GetProperty("code").GetString());
        }
    }
}
