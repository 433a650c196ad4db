using System.Net;
using System.Net.Http.Json;
using System.Text.Json;
using Backend.Toolkit.Tests;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Mvc;
using Microsoft.AspNetCore.Mvc.ApplicationParts;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.RateLimiting.AspNetCore.Tests;

public sealed class RateLimitTests
{
    [Fact]
    public async Task An_admitted_request_carries_the_headers_of_the_draft()
    {
        await using Server server = await Server.StartAsync(app => app.MapGet("/", () => "ok").RequireRateLimit("api"), Policy("api", 100, 60));

        using HttpResponseMessage answer = await server.Client.GetAsync("/");

        answer.StatusCode.Should().Be(HttpStatusCode.OK);
        Header(answer, "RateLimit-Policy").Should().Be("\"api\";q=100;w=60");
        Header(answer, "RateLimit").Should().Be("\"api\";r=99;t=1");
        Header(answer, "Retry-After").Should().BeNull();
    }

    [Fact]
    public async Task A_refused_request_is_answered_429_with_problem_details_and_when_to_come_back()
    {
        await using Server server = await Server.StartAsync(app => app.MapGet("/", () => "ok").RequireRateLimit("api"), Policy("api", 2, 5));
        await server.Client.GetAsync("/");
        await server.Client.GetAsync("/");

        using HttpResponseMessage answer = await server.Client.GetAsync("/");

        answer.StatusCode.Should().Be(HttpStatusCode.TooManyRequests);
        Header(answer, "RateLimit-Policy").Should().Be("\"api\";q=2;w=5");
        Header(answer, "RateLimit").Should().Be("\"api\";r=0;t=3");
        Header(answer, "Retry-After").Should().Be("3");
        answer.Content.Headers.ContentType!.MediaType.Should().Be("application/problem+json");
        JsonElement problem = await answer.Content.ReadFromJsonAsync<JsonElement>();
        problem.GetProperty("status").GetInt32().Should().Be(429);
        problem.GetProperty("detail").GetString().Should().Contain("3 s");
        server.Time.Advance(TimeSpan.FromSeconds(2.5));
        (await server.Client.GetAsync("/")).StatusCode.Should().Be(HttpStatusCode.OK);
    }

    [Fact]
    public async Task Every_policy_is_asked_once_and_a_refusal_gives_back_what_others_charged()
    {
        await using Server server = await Server.StartAsync(
            app =>
            {
                app.UseRateLimits("app");
                app.MapGet("/", () => "ok").RequireRateLimit("app").RequireRateLimit("few").RequireRateLimit("api").RequireRateLimit("api");
                app.MapGet("/plain", () => "ok");
            },
            services =>
            {
                Policy("app", 100, 60)(services);
                Policy("api", 50, 60)(services);
                Policy("few", 1, 60)(services);
            },
            use: false);

        using HttpResponseMessage first = await server.Client.GetAsync("/");
        using HttpResponseMessage refused = await server.Client.GetAsync("/");
        using HttpResponseMessage plain = await server.Client.GetAsync("/plain");

        Header(first, "RateLimit").Should().Be("\"app\";r=99;t=1, \"few\";r=0;t=60, \"api\";r=49;t=2");
        Header(first, "RateLimit-Policy").Should().Be("\"app\";q=100;w=60, \"few\";q=1;w=60, \"api\";q=50;w=60");
        refused.StatusCode.Should().Be(HttpStatusCode.TooManyRequests);
        Header(refused, "RateLimit").Should().Be("\"few\";r=0;t=60");
        Header(plain, "RateLimit").Should().Be("\"app\";r=98;t=2");
    }

    [Fact]
    public async Task An_endpoint_can_be_taken_out_of_all_policies()
    {
        await using Server server = await Server.StartAsync(
            app =>
            {
                app.UseRateLimits("app");
                RouteGroupBuilder group = app.MapGroup("/").RequireRateLimit("app");
                group.MapGet("/health", () => "ok").DisableRateLimit();
                group.MapGet("/attribute", [DisableRateLimit] () => "ok");
            },
            Policy("app", 1, 60),
            use: false);

        for (int i = 0; i < 3; i++)
        {
            foreach (string path in new[] { "/health", "/attribute" })
            {
                using HttpResponseMessage answer = await server.Client.GetAsync(path);
                answer.StatusCode.Should().Be(HttpStatusCode.OK);
                Header(answer, "RateLimit").Should().BeNull();
            }
        }
    }

    [Fact]
    public async Task The_handler_settles_the_real_cost_once()
    {
        await using Server server = await Server.StartAsync(
            app =>
            {
                app.MapGet("/settle/{actual}", (HttpContext context, int actual) =>
                {
                    RequestRateLimits limits = RequestRateLimits.Of(context)!;
                    limits.Settle("api", actual);
                    limits.Invoking(it => it.Settle(actual)).Should().Throw<InvalidOperationException>();
                    limits.Invoking(it => it.Settle("other", actual)).Should().Throw<ArgumentException>();
                    limits.TryGetDecision("api", out RateLimitDecision decision).Should().BeTrue();
                    return decision.Permits;
                }).RequireRateLimit("api", _ => 10);
                app.MapGet("/one", () => "ok").RequireRateLimit("api");
            },
            Policy("api", 100, 60));

        (await server.Client.GetStringAsync("/settle/1")).Should().Be("10");
        Header(await server.Client.GetAsync("/one"), "RateLimit").Should().StartWith("\"api\";r=98;");
        (await server.Client.GetStringAsync("/settle/50")).Should().Be("10");
        Header(await server.Client.GetAsync("/one"), "RateLimit").Should().StartWith("\"api\";r=47;");
    }

    [Theory]
    [InlineData("throws", 99)]
    [InlineData("negative", 99)]
    [InlineData("zero", 100)]
    [InlineData("five", 95)]
    public async Task A_cost_that_cannot_be_told_counts_as_one(string kind, int remaining)
    {
        await using Server server = await Server.StartAsync(
            app => app.MapGet("/", () => "ok").RequireRateLimit("api", _ => kind switch { "throws" => throw new InvalidOperationException("no"), "negative" => -7, "zero" => 0, _ => 5 }),
            Policy("api", 100, 60));

        using HttpResponseMessage answer = await server.Client.GetAsync("/");

        Header(answer, "RateLimit").Should().StartWith($"\"api\";r={remaining};");
        server.Errors.Should().HaveCount(kind is "throws" or "negative" ? 1 : 0);
    }

    [Fact]
    public async Task A_request_that_costs_more_than_can_ever_be_had_is_told_so()
    {
        await using Server server = await Server.StartAsync(app => app.MapGet("/", () => "ok").RequireRateLimit("api", _ => 101), Policy("api", 100, 60));

        using HttpResponseMessage answer = await server.Client.GetAsync("/");

        answer.StatusCode.Should().Be(HttpStatusCode.TooManyRequests);
        Header(answer, "Retry-After").Should().BeNull();
        Header(answer, "RateLimit").Should().Be("\"api\";r=100");
        (await answer.Content.ReadAsStringAsync()).Should().Contain("more than its rate limit ever admits");
    }

    [Fact]
    public async Task The_body_of_a_refusal_can_be_replaced_and_one_that_throws_is_replaced_again()
    {
        await using Server server = await Server.StartAsync(
            app =>
            {
                app.UseRateLimits(onRefused: (context, decision) => context.Request.Query.ContainsKey("throw") ? throw new InvalidOperationException("no") : context.Response.WriteAsync($"slow down, {decision.RetryAfter.TotalSeconds}"));
                app.MapGet("/", () => "ok").RequireRateLimit("api");
            },
            Policy("api", 1, 60),
            use: false);
        await server.Client.GetAsync("/");

        using HttpResponseMessage own = await server.Client.GetAsync("/");
        using HttpResponseMessage again = await server.Client.GetAsync("/?throw=1");

        (own.StatusCode, await own.Content.ReadAsStringAsync()).Should().Be((HttpStatusCode.TooManyRequests, "slow down, 60"));
        Header(own, "Retry-After").Should().Be("60");
        again.StatusCode.Should().Be(HttpStatusCode.TooManyRequests);
        again.Content.Headers.ContentType!.MediaType.Should().Be("application/problem+json");
        server.Errors.Should().ContainSingle().Which.Should().Contain("OnRefused");
    }

    [Fact]
    public async Task Metadata_without_the_middleware_fails_the_request_and_names_it()
    {
        await using Server server = await Server.StartAsync(
            app =>
            {
                app.MapGet("/required", () => "unprotected").RequireRateLimit("api");
                app.MapGet("/attribute", [RateLimit("api")] () => "unprotected");
                app.MapGet("/disabled", [DisableRateLimit] () => "free").RequireRateLimit("api");
                app.MapControllers();
            },
            services =>
            {
                Policy("api", 1, 60)(services);
                services.AddControllers().ConfigureApplicationPartManager(parts => parts.ApplicationParts.Add(new AssemblyPart(typeof(LimitedController).Assembly)));
            },
            use: false);

        foreach (string path in new[] { "/required", "/attribute", "/controller" })
        {
            using HttpResponseMessage answer = await server.Client.GetAsync(path);
            answer.StatusCode.Should().Be(HttpStatusCode.InternalServerError);
        }

        (await server.Client.GetStringAsync("/disabled")).Should().Be("free");
        server.Errors.Should().HaveCount(3).And.OnlyContain(error => error.Contains("UseRateLimits()"));
    }

    [Fact]
    public async Task Attributes_limit_endpoints_and_controllers()
    {
        await using Server server = await Server.StartAsync(
            app =>
            {
                app.MapGet("/attribute", [RateLimit("api")] () => "ok");
                app.MapControllers();
            },
            services =>
            {
                Policy("api", 2, 60)(services);
                services.AddControllers().ConfigureApplicationPartManager(parts => parts.ApplicationParts.Add(new AssemblyPart(typeof(LimitedController).Assembly)));
            });

        (await server.Client.GetAsync("/attribute")).StatusCode.Should().Be(HttpStatusCode.OK);
        (await server.Client.GetAsync("/controller")).StatusCode.Should().Be(HttpStatusCode.OK);
        (await server.Client.GetAsync("/controller")).StatusCode.Should().Be(HttpStatusCode.TooManyRequests);
        (await server.Client.GetAsync("/attribute")).StatusCode.Should().Be(HttpStatusCode.TooManyRequests);
    }

    [Fact]
    public async Task A_policy_that_does_not_exist_never_passes()
    {
        await using Server server = await Server.StartAsync(app => app.MapGet("/", () => "unprotected").RequireRateLimit("nobody"), _ => { });

        using HttpResponseMessage answer = await server.Client.GetAsync("/");

        answer.StatusCode.Should().Be(HttpStatusCode.InternalServerError);
        server.Errors.Should().ContainSingle().Which.Should().Contain("'nobody'").And.Contain("AddTokenBucketLimiter");
        await FluentActions.Awaiting(() => Server.StartAsync(app => app.UseRateLimits("nobody"), _ => { }, use: false)).Should().ThrowAsync<InvalidOperationException>().WithMessage("*'nobody'*");
    }

    [Fact]
    public void What_the_middleware_needs_is_named()
    {
        IApplicationBuilder app = new ApplicationBuilder(new ServiceCollection().BuildServiceProvider());

        app.Invoking(it => it.UseRateLimits()).Should().Throw<InvalidOperationException>().WithMessage("*AddRateLimits()*");
    }

    [Fact]
    public async Task A_limit_that_is_wrong_does_not_hide_what_else_is_wrong()
    {
        Func<Task> start = () => Server.StartAsync(
            app => app.UseRateLimits("app"),
            services =>
            {
                services.AddTokenBucketLimiter<HttpContext>("app", RateLimitKeys.IpPrefix, o => o.Limits.Add(new RateLimit(0, TimeSpan.FromSeconds(1))));
                services.AddOptions<CookiePolicyOptions>().Validate(_ => false, "something else").ValidateOnStart();
            },
            use: false);

        (await start.Should().ThrowAsync<AggregateException>()).Which.InnerExceptions.Select(inner => inner.Message).Should().HaveCount(2)
            .And.ContainMatch("app: *").And.Contain("something else");
    }

    [Fact]
    public async Task A_limiter_with_a_queue_makes_the_request_wait_and_a_client_that_leaves_charges_nothing()
    {
        await using Server server = await Server.StartAsync(
            app => app.MapGet("/", () => "ok").RequireRateLimit("app").RequireRateLimit("api"),
            services =>
            {
                Policy("app", 10, 1_000_000)(services);
                services.AddTokenBucketLimiter<HttpContext>("api", _ => "all", o =>
                {
                    o.QueueLimit = 5;
                    o.Limits.Add(new RateLimit(1, TimeSpan.FromSeconds(1)));
                });
            });
        var limiter = server.Services.GetRequiredKeyedService<KeyedRateLimiter<HttpContext>>("api");
        var context = new DefaultHttpContext { Connection = { RemoteIpAddress = IPAddress.Loopback } };
        await server.Client.GetAsync("/");

        using var source = new CancellationTokenSource();
        Task<HttpResponseMessage> leaves = server.Client.GetAsync("/", source.Token);
        SpinWait.SpinUntil(() => limiter.GetStatistics(context)!.CurrentQueuedCount == 1, TimeSpan.FromSeconds(15)).Should().BeTrue();
        await source.CancelAsync();
        await leaves.Awaiting(it => it).Should().ThrowAsync<OperationCanceledException>();
        var application = server.Services.GetRequiredKeyedService<KeyedRateLimiter<HttpContext>>("app");
        SpinWait.SpinUntil(() => application.GetStatistics(context)!.CurrentAvailablePermits == 9, TimeSpan.FromSeconds(15)).Should().BeTrue("the client that left is charged nothing");
        Task<HttpResponseMessage> waits = server.Client.GetAsync("/");
        SpinWait.SpinUntil(() => limiter.GetStatistics(context)!.CurrentQueuedCount == 1, TimeSpan.FromSeconds(15)).Should().BeTrue();
        server.Time.Advance(TimeSpan.FromSeconds(1));

        using HttpResponseMessage answer = await waits.WaitAsync(TimeSpan.FromSeconds(15));

        answer.StatusCode.Should().Be(HttpStatusCode.OK);
        Header(answer, "RateLimit").Should().StartWith("\"app\";r=8;");
    }

    [Fact]
    public async Task Names_and_composites_make_valid_structured_fields()
    {
        await using Server server = await Server.StartAsync(
            app => app.MapGet("/", () => "ok").RequireRateLimit("a\"b\\ü"),
            services => services.AddTokenBucketLimiter<HttpContext>("a\"b\\ü", _ => null, o =>
            {
                o.Limits.Add(new RateLimit(1000, TimeSpan.FromHours(1)));
                o.Limits.Add(new RateLimit(0.5, TimeSpan.FromSeconds(1), burst: 10));
                o.Limits.Add(new RateLimit(100_000, TimeSpan.FromMilliseconds(1)));
            }));

        using HttpResponseMessage answer = await server.Client.GetAsync("/");

        Header(answer, "RateLimit-Policy").Should().Be("\"a\\\"b\\\\?\";q=10;w=20");
        Header(answer, "RateLimit").Should().Be("\"a\\\"b\\\\?\";r=9;t=4");
    }

    internal static Action<IServiceCollection> Policy(string name, int permits, double seconds) => services =>
        services.AddTokenBucketLimiter<HttpContext>(name, RateLimitKeys.IpPrefix, o => o.Limits.Add(new RateLimit(permits, TimeSpan.FromSeconds(seconds))));

    internal static string? Header(HttpResponseMessage answer, string name) => answer.Headers.TryGetValues(name, out IEnumerable<string>? values) ? string.Join("|", values) : null;
}

[ApiController]
[Route("/controller")]
public sealed class LimitedController : ControllerBase
{
    [HttpGet]
    [RateLimit("api")]
    public string Get() => "ok";
}

/// <summary>A real Kestrel on a free loopback port, whose limits run on a clock that stands until it is moved.</summary>
internal sealed class Server : IAsyncDisposable
{
    private readonly WebApplication _app;

    private Server(WebApplication app, FakeTimeProvider time, ErrorLog errors)
    {
        (_app, Time, Client) = (app, time, new HttpClient { BaseAddress = new Uri(app.Urls.Single()), Timeout = TimeSpan.FromSeconds(15) });
        Errors = errors.Entries;
    }

    public FakeTimeProvider Time { get; }

    public HttpClient Client { get; }

    public IReadOnlyCollection<string> Errors { get; }

    public IServiceProvider Services => _app.Services;

    public static async Task<Server> StartAsync(Action<WebApplication> map, Action<IServiceCollection> add, bool use = true)
    {
        var time = new FakeTimeProvider();
        var errors = new ErrorLog();
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders().AddProvider(errors).SetMinimumLevel(LogLevel.Error);
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, 0));
        builder.Services.AddSingleton<TimeProvider>(time).AddRateLimits();
        add(builder.Services);
        WebApplication app = builder.Build();
        if (use)
        {
            app.UseRateLimits();
        }

        map(app);
        await app.StartAsync().WaitAsync(TimeSpan.FromSeconds(15));
        return new Server(app, time, errors);
    }

    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        await _app.StopAsync().WaitAsync(TimeSpan.FromSeconds(15));
        await _app.DisposeAsync();
    }
}
