using System.Net;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.TimeoutBudgets.AspNetCore.Tests;

/// <summary><c>WithTimeoutBudget</c>, in every order of the pipeline.</summary>
public sealed class EndpointTests
{
    private static readonly TimeSpan Own = TimeSpan.FromSeconds(2);

    private readonly TaskCompletionSource _inside = new(TaskCreationOptions.RunContinuationsAsynchronously);

    [Theory]
    [InlineData(null, "00:00:02")]
    [InlineData("500", "00:00:00.5000000")]
    [InlineData("5000", "00:00:02")]
    public async Task The_maximum_of_an_endpoint_stands_in_for_the_general_one_and_the_header_shortens_it(string? header, string total)
    {
        await using Server server = await Server.StartAsync(
            app => app.MapGet("/", TotalText).WithTimeoutBudget(Own), services => services.AddTimeoutBudgets(o => o.Maximum = TimeSpan.FromSeconds(1)));

        HttpResponseMessage response = await server.GetAsync("/", header);

        (await response.Content.ReadAsStringAsync()).Should().Be(total);
    }

    [Fact]
    public async Task An_endpoint_may_have_no_maximum_and_counts_before_its_group()
    {
        await using Server server = await Server.StartAsync(
            app =>
            {
                RouteGroupBuilder group = app.MapGroup("/group").WithTimeoutBudget(Own);
                group.MapGet("/plain", TotalText);
                group.MapGet("/own", TotalText).WithTimeoutBudget(TimeSpan.FromSeconds(7));
                group.MapGet("/free", TotalText).WithTimeoutBudget(Timeout.InfiniteTimeSpan);
            },
            services => services.AddTimeoutBudgets(o => o.Maximum = TimeSpan.FromSeconds(1)));

        string[] totals = [await server.Client.GetStringAsync("/group/plain"), await server.Client.GetStringAsync("/group/own"), await server.Client.GetStringAsync("/group/free")];

        totals.Should().Equal("00:00:02", "00:00:07", TimeSpan.MaxValue.ToString());
    }

    [Theory]
    [InlineData("never")]
    [InlineData("after the endpoints")]
    [InlineData("short circuit")]
    [InlineData("other branch")]
    [InlineData("controller")]
    public async Task An_endpoint_whose_middleware_did_not_run_fails_and_says_which(string order)
    {
        bool ran = false;
        await using Server server = await Server.StartBareAsync(
            app =>
            {
                if (order == "controller")
                {
                    app.MapControllers().WithTimeoutBudget(Own);
                    return;
                }

                app.UseRouting();
                if (order == "other branch")
                {
                    app.UseWhen(context => context.Request.Path == "/other", branch => branch.UseTimeoutBudgets());
                }

                if (order == "short circuit")
                {
                    app.UseTimeoutBudgets();
                }

                ((IApplicationBuilder)app).UseEndpoints(endpoints =>
                {
                    RouteHandlerBuilder endpoint = endpoints.MapGet("/controller", () => ran = true).WithTimeoutBudget(Own);
                    if (order == "short circuit")
                    {
                        endpoint.ShortCircuit();
                    }
                });
                if (order == "after the endpoints")
                {
                    app.UseTimeoutBudgets();
                }
            },
            services =>
            {
                services.AddSingleton(_inside);
                services.AddControllers().AddApplicationPart(typeof(SlowController).Assembly);
            });

        HttpResponseMessage response = await server.GetAsync("/controller").Soon();

        response.StatusCode.Should().Be(HttpStatusCode.InternalServerError);
        server.Errors.Should().Contain(error => error.Contains("UseTimeoutBudgets() did not run", StringComparison.Ordinal) && error.Contains(order == "controller" ? "SlowController.Get" : "/controller", StringComparison.Ordinal));
        (ran, _inside.Task.IsCompleted).Should().Be((false, false));
    }

    [Fact]
    public async Task An_endpoint_without_a_maximum_of_its_own_needs_no_middleware()
    {
        await using Server server = await Server.StartBareAsync(app => app.MapGet("/", () => "fine"));

        string answer = await server.Client.GetStringAsync("/");

        answer.Should().Be("fine");
    }

    [Theory]
    [InlineData(null, "00:00:02")]
    [InlineData("500", "00:00:00.5000000")]
    [InlineData("5000", "00:00:02")]
    public async Task Before_routing_the_maximum_of_the_endpoint_still_shortens(string? header, string total)
    {
        await using Server server = await StartBeforeRoutingAsync(endpoints => endpoints.MapGet("/", TotalText).WithTimeoutBudget(Own));

        HttpResponseMessage response = await server.GetAsync("/", header);

        (await response.Content.ReadAsStringAsync()).Should().Be(total);
    }

    [Fact]
    public async Task Before_routing_the_maximum_of_the_endpoint_does_not_lengthen()
    {
        await using Server server = await StartBeforeRoutingAsync(
            endpoints => endpoints.MapGet("/", TotalText).WithTimeoutBudget(Own), services => services.AddTimeoutBudgets(o => o.Maximum = TimeSpan.FromSeconds(1)));

        string answer = await server.Client.GetStringAsync("/");

        answer.Should().Be("00:00:01");
    }

    [Theory]
    [InlineData(null, false)]
    [InlineData("60000", false)]
    [InlineData(null, true)]
    public async Task Before_routing_the_endpoint_ends_at_its_own_maximum_too(string? header, bool starts)
    {
        CancellationToken after = default;
        CancellationToken original = default;
        await using Server server = await StartBeforeRoutingAsync(
            endpoints => endpoints.MapGet("/", async (HttpContext context, CancellationToken token) =>
            {
                if (starts)
                {
                    await context.Response.WriteAsync("begun", CancellationToken.None);
                }

                _inside.SetResult();
                await Eventually.UntilCancelled(token);
            }).WithTimeoutBudget(Own),
            before: async (context, next) =>
            {
                original = context.RequestAborted;
                await next(context);
                after = context.RequestAborted;
            });

        Task<HttpResponseMessage> pending = server.GetAsync("/", header);
        await (starts ? pending : _inside.Task).Soon();
        server.Time.Advance(Own);
        HttpResponseMessage response = await pending.Soon();
        Func<Task> read = () => response.Content.ReadAsStringAsync().Soon();

        if (starts)
        {
            await read.Should().ThrowAsync<HttpRequestException>();
        }
        else
        {
            await RequestTests.ShouldBeProblem(response, 504, "Gateway Timeout");
            response.Headers.GetValues("No-Retry").Should().Equal("1");
        }

        Eventually.BeTrue(() => server.Statuses.Count == 1, "the pipeline has been left");
        after.Should().Be(original);
        server.Errors.Should().BeEmpty();
    }

    [Fact]
    public async Task A_second_use_reads_no_header_again_and_sees_an_endpoint_that_the_first_did_not_know()
    {
        await using Server server = await Server.StartBareAsync(app =>
        {
            app.UseTimeoutBudgets();
            app.UseRouting();
            app.UseTimeoutBudgets();
            ((IApplicationBuilder)app).UseEndpoints(endpoints => endpoints.MapGet("/", TotalText).WithTimeoutBudget(Own));
        });

        string[] totals = [await server.Client.GetStringAsync("/"), await (await server.GetAsync("/", "500")).Content.ReadAsStringAsync()];

        totals.Should().Equal("00:00:02", "00:00:00.5000000");
    }

    [Fact]
    public async Task A_request_that_is_executed_again_ends_at_the_maximum_of_its_new_endpoint()
    {
        await using Server server = await Server.StartBareAsync(app =>
        {
            app.UseTimeoutBudgets();
            app.UseStatusCodePagesWithReExecute("/missing");
            app.MapGet("/missing", TotalText).WithTimeoutBudget(Own);
        });

        HttpResponseMessage response = await server.GetAsync("/nowhere", "5000");

        (await response.Content.ReadAsStringAsync()).Should().Be("00:00:02");
    }

    [Fact]
    public async Task An_error_page_that_runs_the_pipeline_again_gets_a_budget_of_its_own()
    {
        await using Server server = await Server.StartBareAsync(app =>
        {
            app.UseExceptionHandler("/error");
            app.UseTimeoutBudgets();
            app.MapGet("/", string () => throw new FormatException());
            app.MapGet("/error", TotalText).WithTimeoutBudget(Own);
        });

        HttpResponseMessage response = await server.GetAsync("/");

        response.StatusCode.Should().Be(HttpStatusCode.InternalServerError);
        (await response.Content.ReadAsStringAsync()).Should().Be("00:00:02");
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-2)]
    public void A_maximum_out_of_range_is_refused(int milliseconds)
    {
        WebApplication app = WebApplication.CreateSlimBuilder().Build();

        Action map = () => app.MapGet("/", TotalText).WithTimeoutBudget(TimeSpan.FromMilliseconds(milliseconds));

        map.Should().Throw<ArgumentOutOfRangeException>().WithMessage("A maximum must be greater than 0, or Timeout.InfiniteTimeSpan.*");
    }

    private static string TotalText() => TimeoutBudget.Current!.Total.ToString();

    private static Task<Server> StartBeforeRoutingAsync(
        Action<IEndpointRouteBuilder> map, Action<IServiceCollection>? add = null, Func<HttpContext, RequestDelegate, Task>? before = null) => Server.StartBareAsync(
        app =>
        {
            app.Use(before ?? (static (context, next) => next(context)));
            app.UseTimeoutBudgets();
            app.UseRouting();
            ((IApplicationBuilder)app).UseEndpoints(map);
        },
        add);
}
