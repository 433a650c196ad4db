using System.Net;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Mvc;
using Microsoft.AspNetCore.Mvc.Filters;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.Pagination.AspNetCore.Tests;

/// <summary>A bad cursor is never an error of the server, however the application handles its errors.</summary>
public sealed class ProblemTests
{
    public static TheoryData<string, string> Ways { get; } = new MatrixTheoryData<string, string>(
        ["nothing", "service", "failing service", "exception handler", "exception page", "status pages", "re-execution"],
        ["/orders", "/api-orders", "/plain-orders"]);

    [Theory]
    [MemberData(nameof(Ways))]
    public async Task A_bad_cursor_and_a_bad_size_are_400_with_problem_details_where_the_application_has(string way, string path)
    {
        await using Server server = await StartAsync(way);

        Answer cursor = await server.GetAsync($"{path}?cursor=x");
        Answer size = await server.GetAsync($"{path}?size=-5");

        cursor.ShouldBeAProblem("invalid-cursor", "malformed");
        size.ShouldBeAProblem("invalid-page-size", "negative");
        size.Json.GetProperty("maxSize").GetInt32().Should().Be(5);
        server.Errors.Should().BeEmpty();
    }

    [Theory]
    [InlineData("nothing")]
    [InlineData("service")]
    public async Task Who_accepts_only_pages_for_people_is_answered_all_the_same(string way)
    {
        await using Server server = await StartAsync(way);

        Answer answer = await server.GetAsync("/orders?cursor=x", request => request.Headers.Add("Accept", "text/html"));

        answer.ShouldBeAProblem("invalid-cursor", "malformed");
    }

    [Fact]
    public async Task The_applications_own_service_may_add_to_the_problem()
    {
        await using Server server = await StartAsync("service");

        Answer answer = await server.GetAsync("/orders?cursor=x");

        answer.Json.GetProperty("ours").GetString().Should().Be("yes");
    }

    [Fact]
    public async Task Without_a_service_the_problem_has_the_same_members()
    {
        await using Server with = await StartAsync("service"), without = await StartAsync("nothing");

        Answer one = await with.GetAsync("/orders?size=-1"), other = await without.GetAsync("/orders?size=-1");

        other.Json.EnumerateObject().Select(member => $"{member.Name}: {member.Value}").Should().BeEquivalentTo(
            one.Json.EnumerateObject().Where(member => member.Name is not ("ours" or "traceId")).Select(member => $"{member.Name}: {member.Value}"));
    }

    [Fact]
    public async Task A_configured_name_is_escaped_in_the_problem()
    {
        await using Server server = await StartAsync("nothing", o => o.SizeParameter = "si\"ze\r\n<");

        Answer answer = await server.GetAsync($"/orders?{Uri.EscapeDataString("si\"ze\r\n<")}=x");

        answer.ShouldBeAProblem("invalid-page-size", "malformed");
        answer.Json.GetProperty("detail").GetString().Should().Contain("'si\"ze\r\n<'");
    }

    [Fact]
    public async Task A_response_that_has_begun_is_not_answered_twice()
    {
        await using Server server = await Server.StartAsync(app => app.MapGet("/begun", async (PageQuery query, CursorPaginator paginator, HttpContext context) =>
        {
            await context.Response.WriteAsync("begun");
            await context.Response.Body.FlushAsync();
            return Order.Page(query, paginator).ToResult();
        }));

        Func<Task> read = () => server.GetAsync("/begun?cursor=x");

        await read.Should().ThrowAsync<HttpRequestException>();
        server.Errors.Should().ContainSingle().Which.Should().Contain("InvalidCursorException");
    }

    [Theory]
    [InlineData("/api-orders?size=x", "invalid-page-size")]
    [InlineData("/api-orders?cursor=x", "invalid-cursor")]
    [InlineData("/plain-orders?size=x", "invalid-page-size")]
    [InlineData("/plain-orders?cursor=x", "invalid-cursor")]
    public async Task An_exception_filter_of_the_application_does_not_make_it_an_error_of_the_server(string address, string type)
    {
        await using Server server = await Server.StartAsync(
            app => app.MapControllers(),
            services =>
            {
                Controllers.Add(services);
                services.Configure<MvcOptions>(o => o.Filters.Add(new CatchAll()));
            });

        Answer answer = await server.GetAsync(address);

        answer.ShouldBeAProblem(type, "malformed");
    }

    [Theory]
    [InlineData("size=x", "invalid-page-size")]
    [InlineData("cursor=x", "invalid-cursor")]
    public async Task A_filter_of_a_group_may_use_the_query_and_sees_the_answer_to_a_bad_cursor(string bad, string type)
    {
        await using Server server = await Server.StartAsync(
            app =>
            {
                app.UseExceptionHandler();
                RouteGroupBuilder group = app.MapGroup("/group").AddEndpointFilter(async (context, next) =>
                {
                    int size = context.GetArgument<PageQuery>(0).Request.Size;
                    try
                    {
                        return size == 1 ? "short" : await next(context);
                    }
                    catch (InvalidCursorException)
                    {
                        return "caught";
                    }
                });
                group.MapGet("/orders", (PageQuery query, CursorPaginator paginator) => Order.Page(query, paginator).ToResult());
            },
            services => services.AddProblemDetails());

        Answer shortened = await server.GetAsync("/group/orders?size=1");
        Answer refused = await server.GetAsync($"/group/orders?{bad}");

        shortened.Body.Should().Be("short");
        refused.ShouldBeAProblem(type, "malformed");
        server.Errors.Should().BeEmpty();
    }

    [Theory]
    [InlineData("nothing")]
    [InlineData("service")]
    public async Task What_a_handler_said_about_caching_a_page_does_not_hold_for_a_refusal(string way)
    {
        await using Server server = await StartAsync(way);

        using HttpResponseMessage page = await server.Client.GetAsync("/cacheable");
        using HttpResponseMessage refused = await server.Client.GetAsync("/cacheable?cursor=x");

        page.Headers.CacheControl!.Public.Should().BeTrue();
        page.Headers.ETag.Should().NotBeNull();
        refused.StatusCode.Should().Be(HttpStatusCode.BadRequest);
        refused.Headers.CacheControl!.ToString().Should().Be("no-store");
        refused.Headers.ETag.Should().BeNull();
    }

    private static Task<Server> StartAsync(string way, Action<HttpPaginationOptions>? configure = null) => Server.StartAsync(
        app =>
        {
            switch (way)
            {
                case "exception handler":
                    app.UseExceptionHandler();
                    break;
                case "exception page":
                    app.UseDeveloperExceptionPage();
                    break;
                case "status pages":
                    app.UseStatusCodePages();
                    break;
                case "re-execution":
                    app.UseStatusCodePagesWithReExecute("/error", "?size=1");
                    break;
            }

            app.MapGet("/orders", (PageQuery query, CursorPaginator paginator) => Order.Page(query, paginator).ToResult());
            app.MapGet("/cacheable", (PageQuery query, CursorPaginator paginator, HttpContext context) =>
            {
                (context.Response.Headers.CacheControl, context.Response.Headers.ETag) = ("public, max-age=600", "\"1\"");
                return Order.Page(query, paginator).ToResult();
            });
            app.MapGet("/error", (PageQuery query) => "an error page");
            app.MapControllers();
        },
        services =>
        {
            Controllers.Add(services);
            services.AddHttpPagination(configure ?? (static _ => { }));
            if (way is "service" or "exception handler")
            {
                services.AddProblemDetails(o => o.CustomizeProblemDetails = context => context.ProblemDetails.Extensions["ours"] = "yes");
            }
            else if (way == "failing service")
            {
                services.AddProblemDetails(o => o.CustomizeProblemDetails = _ => throw new InvalidTimeZoneException("the application's own code"));
            }
        });

    private sealed class CatchAll : IExceptionFilter
    {
        public void OnException(ExceptionContext context) =>
            (context.Result, context.ExceptionHandled) = (new StatusCodeResult(StatusCodes.Status500InternalServerError), true);
    }
}
