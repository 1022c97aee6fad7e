/** The same agent on the split packages of the npm SDK 2.x. */
import { randomUUID } from 'node:crypto';
import express from 'express';
import { z } from 'zod';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { NodeStreamableHTTPServerTransport } from '@modelcontextprotocol/node';
import { McpServer } from '@modelcontextprotocol/server';
import { serve } from './mcp_agent.mjs';

serve({ Client, ClientTransport: StreamableHTTPClientTransport, McpServer, ServerTransport: NodeStreamableHTTPServerTransport, express, randomUUID, z });
