using System.Net;
using System.Net.Http.Json;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Mvc;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.TimeoutBudgets.AspNetCore.Tests;

/// <summary>What a request gets, and what becomes of it.</summary>
public sealed class RequestTests
{
    private readonly TaskCompletionSource _inside = new(TaskCreationOptions.RunContinuationsAsynchronously);

    [Theory]
    [InlineData("1840", "00:00:01.8400000")]
    [InlineData("9999999999999999999", "00:00:10")]
    [InlineData("10ms", "00:00:10")]
    [InlineData(null, "00:00:10")]
    public async Task The_budget_is_the_least_of_the_header_and_of_the_maximum(string? header, string total)
    {
        await using Server server = await Server.StartAsync(
            app => app.MapGet("/", () => $"{TimeoutBudget.Current!.Name} {TimeoutBudget.Current.Total}"),
            services => services.AddTimeoutBudgets(o => (o.Maximum, o.Name) = (TimeSpan.FromSeconds(10), "shop")));

        string answer = await (await server.GetAsync("/", header)).Content.ReadAsStringAsync();

        answer.Should().Be($"shop {total}");
    }

    [Fact]
    public async Task Without_options_only_the_caller_sets_a_deadline_and_there_is_always_a_scope()
    {
        await using Server server = await Server.StartAsync(app => app.MapGet("/", () => TimeoutBudget.Current!.Total.ToString()));

        string without = await server.Client.GetStringAsync("/");
        string with = await (await server.GetAsync("/", "250")).Content.ReadAsStringAsync();

        without.Should().Be(TimeSpan.MaxValue.ToString());
        with.Should().Be("00:00:00.2500000");
    }

    public static TheoryData<string, string> Hostile => new()
    {
        { "Timeout-Budget: -1", "ignored" },
        { "Timeout-Budget: 1.5", "ignored" },
        { "Timeout-Budget: 99999999999999999999999999999999", "ignored" },
        { "Timeout-Budget: 9999999999999999999", "00:00:10" },
        { "Timeout-Budget: \u0661\u0662\u0663", "ignored" },
        { "Timeout-Budget: " + new string('9', 20_000), "ignored" },
        { "Timeout-Budget: " + string.Join(',', Enumerable.Range(500, 1_000)), "00:00:00.5000000" },
        { "Timeout-Budget: " + string.Join(',', Enumerable.Range(500, 1_000)) + ",x", "ignored" },
        { string.Join("\r\n", Enumerable.Range(500, 90).Select(value => $"Timeout-Budget: {value}")), "00:00:00.5000000" },
        { string.Join("\r\n", Enumerable.Range(500, 90).Select(value => $"timeout-budget: {value}ms")), "ignored" },
        { "Timeout-Budget: 700\r\nTIMEOUT-BUDGET: 600", "00:00:00.6000000" },
        { "Timeout-Budget: 700\r\nTimeout-Budget:", "ignored" },
        { "Timeout-Budget:", "ignored" },
    };

    [Theory]
    [MemberData(nameof(Hostile))]
    public async Task Whatever_a_client_sends_can_only_shorten_and_what_is_ignored_is_counted_once(string headers, string total)
    {
        string name = "hostile-" + Guid.NewGuid();
        using var metrics = new Metrics(name);
        await using Server server = await Server.StartAsync(
            app => app.MapGet("/", (HttpContext context) =>
            {
                string text = TimeoutBudget.Current!.Total.ToString();
                context.Response.ContentLength = text.Length;
                return context.Response.WriteAsync(text);
            }),
            services => services.AddTimeoutBudgets(o => (o.Maximum, o.Name) = (TimeSpan.FromSeconds(10), name)));
        using var connection = await server.ConnectAsync();

        await connection.GetStream().WriteAsync(Encoding.UTF8.GetBytes($"GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n"));
        string response = await connection.GetStream().ReadResponseAsync();

        response.Should().StartWith("HTTP/1.1 200 ").And.EndWith(total == "ignored" ? "\r\n00:00:10" : $"\r\n{total}");
        metrics.Counts.Should().BeEquivalentTo(
            total == "ignored" ? new Dictionary<string, long> { ["invalid_header header=Timeout-Budget"] = 1 } : []);
        server.Errors.Should().BeEmpty();
    }

    [Theory]
    [InlineData(true, "300", "200", "00:00:00.2000000")]
    [InlineData(true, "200", "300", "00:00:00.2000000")]
    [InlineData(true, null, "300", "00:00:00.3000000")]
    [InlineData(true, "garbage", "300", "00:00:00.3000000")]
    [InlineData(true, "300", "garbage", "00:00:00.3000000")]
    [InlineData(false, "300", "200", "00:00:00.3000000")]
    public async Task The_header_of_Envoy_shortens_only_when_it_is_read(bool read, string? own, string envoy, string total)
    {
        await using Server server = await Server.StartAsync(
            app => app.MapGet("/", () => TimeoutBudget.Current!.Total.ToString()), services => services.AddTimeoutBudgets(o => o.ReadEnvoyTimeout = read));
        var request = new HttpRequestMessage(HttpMethod.Get, "/");
        request.Headers.Add("x-envoy-expected-rq-timeout-ms", envoy);

        HttpResponseMessage response = await server.SendAsync(request, own);

        (await response.Content.ReadAsStringAsync()).Should().Be(total);
    }

    [Theory]
    [InlineData("0", 5)]
    [InlineData("4", 5)]
    [InlineData("0", 0)]
    [InlineData("99", 100)]
    [InlineData("500, 4", 5)]
    public async Task A_request_that_arrives_too_late_is_answered_503_with_the_reason_before_its_body_is_read(string budget, int minimum)
    {
        bool ran = false;
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", (Body body) => ran = body.Ran = true),
            services => services.AddTimeoutBudgets(o => o.MinimumBudget = TimeSpan.FromMilliseconds(minimum)));
        var request = new HttpRequestMessage(HttpMethod.Post, "/") { Content = JsonContent.Create(new { bound = true }) };
        Body.Bound = 0;

        HttpResponseMessage response = await server.SendAsync(request, budget);

        await ShouldBeProblem(response, 503, "Service Unavailable");
        (await response.Content.ReadAsStringAsync()).Should().Contain($"arrived with {budget.Split(' ')[^1]} ms");
        response.Headers.GetValues("No-Retry").Should().Equal("1");
        (ran, Body.Bound).Should().Be((false, 0));
    }

    [Theory]
    [InlineData("5", 5)]
    [InlineData("1", 0)]
    public async Task A_request_with_just_enough_is_let_in(string budget, int minimum)
    {
        await using Server server = await Server.StartAsync(
            app => app.MapGet("/", () => "in"), services => services.AddTimeoutBudgets(o => o.MinimumBudget = TimeSpan.FromMilliseconds(minimum)));

        HttpResponseMessage response = await server.GetAsync("/", budget);

        response.StatusCode.Should().Be(HttpStatusCode.OK);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_handler_that_expiry_cancels_is_answered_504_with_problem_details_and_is_no_error(bool withService)
    {
        CancellationToken inner = default, outer = default;
        TimeSpan left = default;
        await using Server server = await Server.StartBareAsync(
            app =>
            {
                app.Use(async (context, next) =>
                {
                    await next(context);
                    outer = context.RequestAborted;
                });
                app.UseTimeoutBudgets();
                app.MapGet("/", async (HttpContext context, CancellationToken token) =>
                {
                    inner = token;
                    left = TimeoutBudget.Current!.Remaining;
                    token.Should().Be(context.RequestAborted).And.Be(TimeoutBudget.Current.Token);
                    _inside.SetResult();
                    await Eventually.UntilCancelled(token);
                });
            },
            services =>
            {
                if (withService)
                {
                    services.AddProblemDetails(o => o.CustomizeProblemDetails = problem => problem.ProblemDetails.Extensions["ours"] = "yes");
                }
            });

        Task<HttpResponseMessage> pending = server.GetAsync("/", "100");
        await _inside.Task.Soon();
        server.Time.Advance(TimeSpan.FromMilliseconds(99));
        bool early = inner.IsCancellationRequested;
        server.Time.Advance(TimeSpan.FromMilliseconds(1));
        HttpResponseMessage response = await pending.Soon();

        JsonElement problem = await ShouldBeProblem(response, 504, "Gateway Timeout");
        problem.TryGetProperty("ours", out _).Should().Be(withService);
        response.Headers.GetValues("No-Retry").Should().Equal("1");
        (early, inner.IsCancellationRequested, outer.IsCancellationRequested).Should().Be((false, true, false));
        left.Should().Be(TimeSpan.FromMilliseconds(100));
        server.Errors.Should().BeEmpty();
    }

    [Fact]
    public async Task A_service_for_problem_details_that_fails_does_not_change_the_answer()
    {
        await using Server server = await Server.StartAsync(
            app => app.MapGet("/", () => "never"),
            services => services.AddProblemDetails(o => o.CustomizeProblemDetails = _ => throw new FormatException()));

        HttpResponseMessage response = await server.GetAsync("/", "0");

        await ShouldBeProblem(response, 503, "Service Unavailable");
        response.Headers.GetValues("No-Retry").Should().Equal("1");
    }

    [Fact]
    public async Task A_service_for_problem_details_that_claims_to_have_written_and_did_not_is_written_for()
    {
        await using Server server = await Server.StartAsync(app => app.MapGet("/", () => "never"), services => services.AddSingleton<IProblemDetailsService, ClaimsToHaveWritten>());

        HttpResponseMessage response = await server.GetAsync("/", "0");

        await ShouldBeProblem(response, 503, "Service Unavailable");
    }

    [Fact]
    public async Task A_client_that_accepts_no_JSON_gets_the_answer_nevertheless()
    {
        await using Server server = await Server.StartAsync(app => app.MapGet("/", () => "never"), services => services.AddProblemDetails());
        var request = new HttpRequestMessage(HttpMethod.Get, "/") { Headers = { { "Accept", "text/html" } } };

        HttpResponseMessage response = await server.SendAsync(request, "0");

        await ShouldBeProblem(response, 503, "Service Unavailable");
    }

    [Fact]
    public async Task Model_binding_that_waits_for_a_slow_body_is_cancelled_too()
    {
        bool ran = false;
        await using Server server = await Server.StartBareAsync(app =>
        {
            app.UseTimeoutBudgets();
            app.Use((context, next) =>
            {
                _inside.SetResult();
                return next(context);
            });
            app.MapPost("/", (Body body) => ran = body.Ran = true);
        });
        using var connection = await server.ConnectAsync();
        await connection.GetStream().WriteAsync("POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTimeout-Budget: 100\r\nContent-Length: 100\r\n\r\n{"u8.ToArray());
        await _inside.Task.Soon();

        server.Time.Advance(TimeSpan.FromMilliseconds(100));
        string response = await connection.GetStream().ReadResponseAsync();

        response.Should().StartWith("HTTP/1.1 504 ").And.Contain("\r\nNo-Retry: 1\r\n");
        ran.Should().BeFalse();
        server.Errors.Where(error => !error.Contains("automatic draining", StringComparison.Ordinal)).Should().BeEmpty("the server may not be able to read the rest of a body whose reading was cut");
    }

    [Theory]
    [InlineData("plain")]
    [InlineData("wrapped")]
    [InlineData("deep")]
    [InlineData("aggregate")]
    [InlineData("policy")]
    public async Task A_cancellation_wrapped_at_any_depth_is_a_504(string how)
    {
        await using Server server = await Server.StartAsync(app => app.MapGet("/", async (CancellationToken token) =>
        {
            _inside.SetResult();
            await Eventually.UntilLate(token);
            var cancelled = new OperationCanceledException(token);
            throw how switch
            {
                "wrapped" => new HttpRequestException("", cancelled),
                "deep" => new InvalidOperationException("", new HttpRequestException("", new IOException("", cancelled))),
                "aggregate" => new AggregateException(cancelled, new IOException("", cancelled)),
                "policy" => new TimeoutBudgetExceededException("slice", default, default, cancelled),
                _ => cancelled,
            };
        }));

        HttpResponseMessage response = await ExpireAsync(server);

        await ShouldBeProblem(response, 504, "Gateway Timeout");
        server.Errors.Should().BeEmpty();
    }

    [Theory]
    [InlineData("other")]
    [InlineData("aggregate")]
    [InlineData("timeout")]
    public async Task A_failure_of_another_kind_passes_untouched_also_after_the_expiry(string how)
    {
        Exception? seen = null;
        Exception thrown = how switch
        {
            "aggregate" => new AggregateException(new OperationCanceledException(), new FormatException()),
            "timeout" => new TimeoutException(),
            _ => new FormatException(),
        };
        await using Server server = await Server.StartBareAsync(app =>
        {
            app.Use(async (context, next) =>
            {
                try
                {
                    await next(context);
                }
                catch (Exception exception)
                {
                    seen = exception;
                    context.Response.StatusCode = 418;
                    await context.Response.WriteAsync("handled");
                }
            });
            app.UseTimeoutBudgets();
            app.MapGet("/", async (HttpContext context, CancellationToken token) =>
            {
                context.Response.BodyWriter.GetSpan(5)[0] = 1;
                context.Response.BodyWriter.Advance(5);
                _inside.SetResult();
                await Eventually.UntilLate(token);
                throw thrown;
            });
        });

        HttpResponseMessage response = await ExpireAsync(server);

        seen.Should().BeSameAs(thrown);
        ((int)response.StatusCode).Should().Be(418);
        (await response.Content.ReadAsStringAsync()).Should().Be("handled");
        response.Headers.Contains("No-Retry").Should().BeFalse();
    }

    [Fact]
    public async Task A_cancellation_before_the_expiry_is_the_handlers_own_failure()
    {
        await using Server server = await Server.StartAsync(app => app.MapGet("/", Task () => throw new TaskCanceledException()));

        HttpResponseMessage response = await server.GetAsync("/", "100");

        response.StatusCode.Should().Be(HttpStatusCode.InternalServerError);
        response.Headers.Contains("No-Retry").Should().BeFalse();
        server.Errors.Should().NotBeEmpty();
    }

    [Fact]
    public async Task A_connection_serves_the_next_request_after_a_504_and_pipelined_ones_are_independent()
    {
        int requests = 0;
        await using Server server = await Server.StartAsync(app => app.MapGet("/", async (HttpContext context, CancellationToken token) =>
        {
            if (Interlocked.Increment(ref requests) == 1)
            {
                _inside.SetResult();
                await Eventually.UntilCancelled(token);
            }

            context.Response.ContentLength = 4;
            await context.Response.WriteAsync("done", token);
        }));
        using var connection = await server.ConnectAsync();
        Stream stream = connection.GetStream();
        await stream.WriteAsync("GET / HTTP/1.1\r\nHost: a\r\nTimeout-Budget: 100\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nTimeout-Budget: 200\r\n\r\n"u8.ToArray());
        await _inside.Task.Soon();

        server.Time.Advance(TimeSpan.FromMilliseconds(100));
        string first = await stream.ReadResponseAsync();
        string second = await stream.ReadResponseAsync();
        await stream.WriteAsync("GET / HTTP/1.1\r\nHost: a\r\nTimeout-Budget: 0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"u8.ToArray());
        string third = await stream.ReadResponseAsync();
        string fourth = await stream.ReadResponseAsync();

        first.Should().StartWith("HTTP/1.1 504 ").And.Contain("No-Retry: 1");
        second.Should().StartWith("HTTP/1.1 200 ").And.NotContain("No-Retry");
        third.Should().StartWith("HTTP/1.1 503 ").And.Contain("No-Retry: 1");
        fourth.Should().StartWith("HTTP/1.1 200 ").And.NotContain("No-Retry");
        server.Errors.Should().BeEmpty();
    }

    [Fact]
    public async Task Over_HTTP_2_streams_of_one_connection_expire_alone()
    {
        await using Server server = await Server.StartAsync(
            app => app.MapGet("/{how}", async (string how, HttpContext context, CancellationToken token) =>
            {
                if (how == "slow")
                {
                    context.Response.AppendTrailer("x-late", "1");
                    _inside.SetResult();
                    await Eventually.UntilCancelled(token);
                }

                await context.Response.WriteAsync("done", token);
            }),
            protocols: HttpProtocols.Http2);
        Task<HttpResponseMessage> slow = server.SendAsync(Http2("/slow"), "100");
        await _inside.Task.Soon();

        HttpResponseMessage quick = await server.SendAsync(Http2("/quick"), "100");
        string body = await quick.Content.ReadAsStringAsync();
        server.Time.Advance(TimeSpan.FromMilliseconds(100));
        HttpResponseMessage late = await slow.Soon();
        HttpResponseMessage next = await server.SendAsync(Http2("/quick"), "100");

        body.Should().Be("done");
        await ShouldBeProblem(late, 504, "Gateway Timeout");
        late.TrailingHeaders.Should().BeEmpty();
        (late.Version, next.StatusCode).Should().Be((HttpVersion.Version20, HttpStatusCode.OK));

        static HttpRequestMessage Http2(string path) =>
            new(HttpMethod.Get, path) { Version = HttpVersion.Version20, VersionPolicy = HttpVersionPolicy.RequestVersionExact };
    }

    [Fact]
    public async Task Calls_of_the_handler_inherit_the_budget_and_work_that_outlives_it_does_not()
    {
        var release = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        TimeoutBudget? inherited = null, after = null;
        Task background = Task.CompletedTask;
        await using Server server = await Server.StartAsync(app => app.MapGet("/", async () =>
        {
            await Task.Yield();
            inherited = TimeoutBudget.Current;
            background = Task.Run(async () =>
            {
                await release.Task;
                after = TimeoutBudget.Current;
            });
        }));

        await server.GetAsync("/", "100");
        Eventually.BeTrue(() => server.Statuses.Count == 1, "the pipeline has been left");
        release.SetResult();
        await background.Soon();

        inherited!.Total.Should().Be(TimeSpan.FromMilliseconds(100));
        after.Should().BeNull();
    }

    [Fact]
    public async Task A_controller_is_bound_cancelled_and_answered_as_any_other_endpoint()
    {
        await using Server server = await Server.StartAsync(
            app => app.MapControllers().WithTimeoutBudget(TimeSpan.FromMilliseconds(100)),
            services =>
            {
                services.AddSingleton(_inside);
                services.AddControllers().AddApplicationPart(typeof(SlowController).Assembly);
            });

        Task<HttpResponseMessage> pending = server.GetAsync("/controller");
        await _inside.Task.Soon();
        server.Time.Advance(TimeSpan.FromMilliseconds(100));
        HttpResponseMessage response = await pending.Soon();

        await ShouldBeProblem(response, 504, "Gateway Timeout");
        server.Errors.Should().BeEmpty();
    }

    [Fact]
    public async Task With_the_request_timeouts_of_ASP_NET_Core_inside_an_expired_budget_is_still_a_504()
    {
        await using Server server = await Server.StartAsync(
            app =>
            {
                app.UseRequestTimeouts();
                app.MapGet("/", async (CancellationToken token) =>
                {
                    _inside.SetResult();
                    await Eventually.UntilCancelled(token);
                }).WithRequestTimeout(TimeSpan.FromMinutes(5));
            },
            services => services.AddRequestTimeouts());

        HttpResponseMessage response = await ExpireAsync(server);

        await ShouldBeProblem(response, 504, "Gateway Timeout");
        response.Headers.GetValues("No-Retry").Should().Equal("1");
        server.Errors.Should().BeEmpty();
    }

    internal static async Task<JsonElement> ShouldBeProblem(HttpResponseMessage response, int status, string title)
    {
        string body = await response.Content.ReadAsStringAsync().Soon();
        ((int)response.StatusCode).Should().Be(status, body);
        response.Content.Headers.ContentType?.MediaType.Should().Be("application/problem+json");
        JsonElement problem = JsonDocument.Parse(body).RootElement;
        problem.GetProperty("status").GetInt32().Should().Be(status);
        problem.GetProperty("title").GetString().Should().Be(title);
        problem.GetProperty("type").GetString().Should().Be($"https://tools.ietf.org/html/rfc9110#section-15.6.{status - 499}");
        problem.GetProperty("detail").GetString().Should().NotBeEmpty();
        return problem;
    }

    private async Task<HttpResponseMessage> ExpireAsync(Server server)
    {
        Task<HttpResponseMessage> pending = server.GetAsync("/", "100");
        await _inside.Task.Soon();
        server.Time.Advance(TimeSpan.FromMilliseconds(100));
        return await pending.Soon();
    }

    private sealed class Body
    {
        public static int Bound { get; set; }

        public bool Ran { get; set; }

        public static async ValueTask<Body?> BindAsync(HttpContext context)
        {
            Bound++;
            return await context.Request.ReadFromJsonAsync<Body>(context.RequestAborted);
        }
    }
}

[ApiController]
[Route("controller")]
public sealed class SlowController(TaskCompletionSource inside) : ControllerBase
{
    [HttpGet]
    public async Task<IActionResult> Get(CancellationToken token)
    {
        inside.SetResult();
        await Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, token);
        return Ok();
    }
}

/// <summary>As the service of MVC does for a controller without [ApiController].</summary>
internal sealed class ClaimsToHaveWritten : IProblemDetailsService
{
    public ValueTask WriteAsync(ProblemDetailsContext context) => ValueTask.CompletedTask;

    public ValueTask<bool> TryWriteAsync(ProblemDetailsContext context) => new(true);
}
